"""The charts of the page as SVG and PNG, on white, with a legend: a panel for each task."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import altair as alt
import pandas as pd

from bench.records import files
from bench.records.summary import summarise
from bench.report import charts, gradients, panels, pareto, stream_charts
from bench.report.charts import Datasets, Spec
from bench.report.curves import Curves
from bench.report.palette import Look
from bench.report.panels import HEIGHT_PX, Chart
from bench.report.points import QUANTITIES, SCORE, Quantity
from bench.report.side_by_side import Joined

WIDTH_PX = 300
SCALE = 2
N_COLUMNS = 2
N_PANELS = 6  # of one file; further ones are in a second
INK = "#333333"


@dataclass(frozen=True)
class Panel:
    """One chart of an image."""

    title: str
    note: str
    chart: Callable[[str, Sequence[Look]], Chart]  # of the prefix of its data's names
    datasets: Datasets


def write(studies: Joined, folder: Path) -> list[Path]:
    """Every chart that the studies have something for; equal rows give equal bytes."""
    import vl_convert

    written = []
    for name, spec in _images(studies):
        svg = vl_convert.vegalite_to_svg(json.dumps(spec))
        for path, content in (
            (folder / f"{name}.svg", svg.encode()),
            (folder / f"{name}.png", vl_convert.svg_to_png(svg, scale=SCALE)),
        ):
            files.write_atomically(path, content)
            written.append(path)
    return written


def _images(studies: Joined) -> Iterator[tuple[str, Spec]]:
    """File names and specifications; gradient reach is a picture for each task."""
    runs, drawn = studies.frame, studies.looks()
    cells = summarise(runs)
    by_task = [(str(task), part) for task, part in cells.groupby("task", sort=False)]
    groups: dict[str, list[Panel]] = {}
    for quantity in QUANTITIES:
        against = [_against_length(task, part, quantity, drawn) for task, part in by_task]
        groups[_name(quantity)] = [panel for panel in against if panel]
    for task, part in by_task:
        for front in pareto.fronts(part):
            groups.setdefault(f"pareto_{_name(front.cost)}", []).append(_front(task, front))
    groups["learning_curves"] = [
        _curves(task, found) for task, found in studies.curves(cells).items()
    ]
    for name, of_task in runs.groupby("task", sort=False):
        for one in stream_charts.pictures(stream_charts.measured(of_task)):
            groups.setdefault(one.name, []).append(_stream(str(name), one))
    for file, found in groups.items():
        for start in range(0, len(found), N_PANELS):
            number = start // N_PANELS + 1
            numbered = file if number == 1 else f"{file}_{number}"
            yield numbered, _together(found[start : start + N_PANELS], drawn, studies.marks)
    yield from gradients.images(runs, drawn)


def _name(quantity: Quantity) -> str:
    return quantity.title.lower().replace(" ", "_")


def _against_length(
    task: str, cells: pd.DataFrame, quantity: Quantity, drawn: Sequence[Look]
) -> Panel | None:
    found = charts.against_length(cells, quantity, drawn)
    if found is None:
        return None
    shape, datasets = found
    metric = cells["metric"].iloc[0]
    what = metric if quantity is SCORE and isinstance(metric, str) else quantity.title

    def chart(prefix: str, drawn: Sequence[Look]) -> Chart:
        return panels.against_length(replace(shape, drawn=tuple(drawn)), prefix)

    return Panel(f"{task}: {what.lower()}", shape.note, chart, datasets)


def _front(task: str, front: pareto.Front) -> Panel:
    title = f"{task}: score against {front.cost.title.lower()}, length {front.length:,}"

    def chart(prefix: str, drawn: Sequence[Look]) -> Chart:
        return pareto.chart(front.cost, drawn, prefix)

    return Panel(title, front.note, chart, {"points": front.points})


def _curves(task: str, curves: Curves) -> Panel:
    title = f"{task}: {curves.name.replace('_', ' ')} while learning, length {curves.length:,}"

    def chart(prefix: str, drawn: Sequence[Look]) -> Chart:
        return panels.by_step(drawn, prefix)

    return Panel(title, "every seed", chart, {"points": curves.points})


def _stream(task: str, one: stream_charts.StreamPicture) -> Panel:
    def chart(prefix: str, drawn: Sequence[Look]) -> Chart:
        return stream_charts.chart(one.shape, drawn, prefix)

    return Panel(f"{task}: {one.title.lower()}", one.note, chart, {"points": one.points})


def _together(found: Sequence[Panel], drawn: Sequence[Look], marks: str) -> Spec:
    """The panels side by side, with one legend of what they show.

    `marks` says how studies are told apart.
    """
    points = (point for panel in found for data in panel.datasets.values() for point in data)
    names = {point.get("architecture") for point in points}
    drawn = [look for look in drawn if look.architecture in names]
    drawings: list[Chart] = []
    datasets: Datasets = {}
    for index, panel in enumerate(found):
        prefix = f"{index} "
        datasets |= {f"{prefix}{name}": data for name, data in panel.datasets.items()}
        title = alt.TitleParams(panel.title, subtitle=panel.note)
        chart = panel.chart(prefix, drawn)
        drawings.append(chart.properties(width=WIDTH_PX, height=HEIGHT_PX, title=title))
    together = alt.concat(*drawings, columns=N_COLUMNS).add_params(panels.shown(drawn))
    if marks:
        together = together.properties(title=alt.TitleParams(marks, fontWeight="normal"))
    styled = panels.styled(together, ink=INK, background="white", legend=True)
    return {**styled, "datasets": datasets}
