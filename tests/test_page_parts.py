"""What stands on the page: fronts, coverage, streams, crossovers, studies side by side."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from typer.testing import CliRunner

from bench.cli import app
from bench.errors import UserError
from bench.records.store import Store
from bench.records.tidy import tidy
from bench.report import charts, coverage, crossings, images, page, pareto, stream_charts
from bench.report.palette import looks, looks_of_studies
from bench.report.points import MEMORY, TRAIN_SPEED
from bench.report.side_by_side import joined
from tests import generated_study, synthetic

SMALL = synthetic.SMALL


def filled(folder: Path, **changes: Any) -> Any:
    runs, store = synthetic.runs(**{**SMALL, **changes}), Store(folder)
    synthetic.pack(store, synthetic.came(runs))
    return synthetic.study(runs, folder), store


def cells(*lines: tuple[str, float, float, str], higher: bool = True) -> pd.DataFrame:
    """Architectures at one length: score, tokens/s and MiB alike, kernel."""
    return pd.DataFrame(
        [
            {
                "architecture": name,
                "length": 128,
                "score": score,
                "kernel": kernel,
                "score_low": score,
                "score_high": score,
                "higher_is_better": higher,
                "train_tokens_per_s": cost,
                "peak_bytes": cost * 2**20,
            }
            for name, score, cost, kernel in lines
        ]
    )


FOUR = (("a", 0.9, 10.0, "aten"), ("b", 0.5, 20.0, "aten"), ("c", 0.4, 15.0, "aten"))


def test_the_front_holds_who_is_not_beaten_in_both() -> None:
    speed, memory = pareto.fronts(cells(*FOUR))
    assert (speed.cost, speed.names) == (TRAIN_SPEED, ["b", "a"])
    assert (memory.cost, memory.names) == (MEMORY, ["a"])
    lower, _ = pareto.fronts(cells(*FOUR, higher=False))
    assert lower.names == ["b", "c"]


def test_plain_kernels_are_on_the_front_only_among_themselves() -> None:
    fast, _ = pareto.fronts(cells(*FOUR, ("d", 0.99, 99.0, "reference")))
    assert fast.names == ["b", "a"]
    assert "†" in fast.note
    plain, _ = pareto.fronts(cells(*((name, s, c, "reference") for name, s, c, _ in FOUR)))
    assert plain.names == ["b", "a"]


def test_the_front_is_of_the_length_at_which_most_can_be_compared() -> None:
    two = cells(*FOUR).assign(length=64)
    three = pd.concat([two, cells(*FOUR), cells(FOUR[0]).assign(length=256)])
    assert [front.length for front in pareto.fronts(three)] == [128, 128]
    assert pareto.fronts(cells(FOUR[0])) == []
    assert pareto.fronts(cells(*FOUR).assign(score=float("nan"))) == []


def test_coverage_counts_what_was_asked_for(tmp_path: Path) -> None:
    found = coverage.coverage(joined([filled(tmp_path)]).frame, 3)
    lines = dict(found.lines)
    assert found.tasks == ["adding", "mqar"]
    assert [one.text for one in lines["lstm"]] == ["8", "8"]
    assert [one.text for one in lines["transformer"]] == ["4 of 8: 4 oom"] * 2
    assert not lines["transformer"][0].whole
    assert found.sentence.startswith("3 architectures on 2 tasks at lengths 128, 8,192, 3 seeds")
    assert {reason["status"] for reason in found.reasons} == {"oom"}


def test_streams_are_drawn_and_told_in_a_table(tmp_path: Path) -> None:
    study, store = generated_study.generated(
        tmp_path, architectures=("lstm", "transformer"), tasks=("mqar",), seeds=1
    )
    found = stream_charts.measured(joined([(study, store)]).frame)
    latency, state = stream_charts.pictures(found)
    assert latency.shape.positions == generated_study.POSITIONS
    assert {point["value"] for point in state.points if point["architecture"] == "lstm"} == {1024}
    assert state.shape.ticks == (1e4, 1e5, 1e6, 1e7, 1e8)
    lstm, transformer = stream_charts.table(found)
    assert lstm[:2] == ["lstm", "1"]
    assert lstm[5] == "flat"
    assert transformer[7] == "102,400,000 at 100,000"
    html = page.render(study, store)
    assert "Latency of a token, one stream" in html
    assert "Reach of the gradient after training" in html


def test_a_study_without_streams_has_no_picture_of_them() -> None:
    found = stream_charts.measured(tidy([synthetic.row(synthetic.measuring())]))
    assert stream_charts.pictures(found) == []
    assert stream_charts.table(found) == []


def test_crossovers_are_listed_and_the_others_counted(tmp_path: Path) -> None:
    study, store = filled(
        tmp_path, architectures=("gru", "rnn", "transformer"), lengths=(128, 4096)
    )
    train, _, memory = crossings.tables(joined([(study, store)]).frame)
    assert train.told == "6 pairs: 4 cross, 2 do not"
    assert {line[1] for line in train.others} == {"gru and rnn"}
    assert not memory.crossing


@pytest.mark.parametrize("n", [0, 1])
def test_one_architecture_crosses_nothing(tmp_path: Path, n: int) -> None:
    study, store = filled(tmp_path, architectures=("gru",)[:n])
    assert crossings.tables(joined([(study, store)]).frame) == []


def test_a_study_that_asks_for_nothing_is_a_page_that_says_so(tmp_path: Path) -> None:
    html = page.render(synthetic.study([], tmp_path), Store(tmp_path))
    assert "The study asks for no runs." in html
    assert "Nobody yet" in html


def two(tmp_path: Path, processor: str = "Imaginary 9000") -> Any:
    """Two studies of the same architectures, the second on a processor of its own."""
    first = filled(tmp_path / "old" / "demo", architectures=("rnn", "lstm"))
    runs, store = synthetic.runs(("lstm", "gru"), lengths=(128,)), Store(tmp_path / "new" / "demo")
    provenance = {**synthetic.PROVENANCE, "processor": processor}
    synthetic.pack(store, (synthetic.row(run, provenance=provenance) for run in runs))
    return [first, (synthetic.study(runs, store.folder), store)]


def test_two_studies_stand_side_by_side_each_under_its_name(tmp_path: Path) -> None:
    together = joined(two(tmp_path))
    assert [part.name for part in together.parts] == ["old/demo", "new/demo"]
    assert together.marks == "full marks: old/demo; hollow marks: new/demo"
    assert list(together.shown) == [
        *("rnn · old/demo", "lstm · old/demo", "lstm · new/demo", "gru · new/demo")
    ]
    assert len(together.frame) == sum(len(part.frame) for part in together.parts)
    html = page.render_joined(together)
    assert "old/demo: 32 runs" in html
    assert "lstm · new/demo" in html
    assert "3 architectures on 2 tasks" in html
    assert ">study</button>" in html
    assert "old/demo: hardware: Imaginary 9000" in html
    again = page.render_joined(joined(two(tmp_path)))
    assert again == html


def test_an_architecture_has_one_colour_and_shape_in_all_studies(tmp_path: Path) -> None:
    found = {look.architecture: look for look in joined(two(tmp_path)).looks()}
    old, new = found["lstm · old/demo"], found["lstm · new/demo"]
    assert (old.colour, old.shape) == (new.colour, new.shape)
    assert (old.fill, new.fill) == (1, 0)
    assert found["gru · new/demo"].colour not in (old.colour, found["rnn · old/demo"].colour)
    fills = looks_of_studies({f"a · {n}": ("a", n) for n in range(3)}, 3)
    assert [look.fill for look in fills] == [1, 0.5, 0]


def test_different_machines_are_compared_only_if_asked_for(tmp_path: Path) -> None:
    together = joined(two(tmp_path, "Imaginary 1"))
    with pytest.raises(UserError, match="--across does it anyway"):
        page.render_joined(together)
    html = page.render_joined(together, across=True)
    assert "Warning: speeds and memory are of different machines: Imaginary 1, 2 cores" in html


def test_one_study_twice_is_refused(tmp_path: Path) -> None:
    study = filled(tmp_path)
    with pytest.raises(UserError, match="given twice"):
        joined([study, study])


def test_the_command_takes_several_studies(tmp_path: Path) -> None:
    run = {"architecture": "lstm", "task": "mqar", "length": 64}
    for name in ("a", "b"):
        folder = tmp_path / name
        folder.mkdir()
        given = {"title": "One", "include": [run]}
        (folder / "study.yaml").write_text(json.dumps(given))
    done = CliRunner().invoke(app, ["report", str(tmp_path / "a"), str(tmp_path / "b"), "--images"])
    assert done.exit_code == 0, done.output
    written = tmp_path / "a" / "report-with-b.html"
    assert done.output.split() == [str(written)]
    assert "lstm · b" in written.read_text(encoding="utf-8")


def test_every_chart_gives_an_architecture_one_colour(tmp_path: Path) -> None:
    study, store = generated_study.generated(
        tmp_path, architectures=("lstm", "gru", "transformer"), seeds=2
    )
    html = page.render(study, store)
    data = re.search(r'<script type="application/json" id="data">(.*?)</script>', html, re.DOTALL)
    assert data is not None
    specs = json.loads(data[1])["specs"]
    wanted = {look.architecture: look.colour for look in looks(["lstm", "gru", "transformer"])}
    found = [
        dict(zip(scale["domain"], scale["range"], strict=True))
        for spec in specs
        for scale in _colour_scales(spec)
    ]
    assert len(found) > len(specs)
    assert all(one == wanted for one in found)


def _colour_scales(spec: Any) -> Any:
    if isinstance(spec, dict):
        if spec.get("field") == "architecture" and "#" in str(spec.get("scale", {}).get("range")):
            yield spec["scale"]
        for value in spec.values():
            yield from _colour_scales(value)
    elif isinstance(spec, list):
        for value in spec:
            yield from _colour_scales(value)


def test_every_kind_of_chart_is_an_image_and_no_task_is_left_out(tmp_path: Path) -> None:
    tasks = [{"name": "mqar", "pairs": n + 1, "label": f"mqar {n}"} for n in range(7)]
    study, store = generated_study.generated(
        tmp_path, architectures=("lstm", "gru"), tasks=["mqar", *tasks], seeds=2, lengths=(64, 128)
    )
    written = images.write(joined([(study, store)]), tmp_path / "charts")
    names = {path.name for path in written if path.suffix == ".svg"}
    twice = {"score", "training_speed", "inference_speed", "peak_memory", "learning_curves"}
    twice |= {"pareto_training_speed", "pareto_peak_memory"}
    assert names == {
        *(f"{name}{end}.svg" for name in twice for end in ("", "_2")),
        *("stream_latency_1.svg", "stream_state.svg", "gradient_reach_mqar.svg"),
    }
    assert "mqar 6" in (tmp_path / "charts" / "score_2.svg").read_text()


def test_decades_are_drawn_only_where_there_are_several() -> None:
    assert charts.panels.decades([1.0, 50.0]) == ()
    assert charts.panels.decades([5.0, 5000.0]) == (10.0, 100.0, 1000.0)


def test_scores_that_are_no_numbers_are_a_page_that_says_so(tmp_path: Path) -> None:
    store, runs = Store(tmp_path), synthetic.runs(("lstm", "gru"), ("mqar",), (128,), seeds=1)
    bad = {"test_score": float("nan"), "val_score": float("inf"), "train_tokens_per_s": -1.0}
    synthetic.pack(store, (synthetic.row(run, metrics=bad) for run in runs))
    html = page.render(synthetic.study(runs, tmp_path), store)
    assert "1 without score" in html
    assert "Nothing to draw yet" in html
    assert "NaN" not in html.partition('id="data">')[2].partition("</script>")[0]


def test_one_seed_is_shown_without_an_interval_or_a_rank(tmp_path: Path) -> None:
    study, store = filled(tmp_path, architectures=("lstm", "gru"), lengths=(128,), seeds=1)
    html = page.render(study, store)
    assert "one seed: not ranked" in html
    assert "(one seed: no interval)" in html


def test_a_single_step_is_no_learning_curve(tmp_path: Path) -> None:
    runs, store = [synthetic.run(seed=seed) for seed in (0, 1)], Store(tmp_path)
    for n_steps, has_curve in ((1, False), (2, True)):
        for run in runs:
            curve = {"val_score": [(30 * (n + 1), 0.5) for n in range(n_steps)]}
            store.write(synthetic.row(run, curves=curve))
        html = page.render(synthetic.study(runs, tmp_path), store)
        assert ("Learning curves" in html) is has_curve
