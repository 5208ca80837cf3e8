"""Statistics, leaderboard and images: what rows allow to say, in the same bytes always."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from bench.records import markdown
from bench.records.expected import complete
from bench.records.row import Scored
from bench.records.store import Store
from bench.records.summary import summarise
from bench.report import images, leaderboard, page, statistics
from bench.report.palette import looks
from bench.report.points import SCORE, TRAIN_SPEED, failures, points
from bench.report.side_by_side import joined
from bench.spec import Run
from bench.study import Study
from tests import synthetic

SMALL: dict[str, Any] = {"architectures": ("rnn", "lstm", "transformer"), "lengths": (128, 8192)}
HOSTILE = ('<script>alert("x")</script>', "a|b\nc", "ünïcödé 模型", "very_long_" * 20)


def filled(folder: Path, **changes: Any) -> tuple[Study, Store]:
    runs, store = synthetic.runs(**{**SMALL, **changes}), Store(folder)
    synthetic.fill(store, runs)
    return synthetic.study(runs, folder), store


def with_scores(folder: Path, scores: dict[str, list[float | None]], task: str = "mqar") -> Any:
    """The ranked cells of one task and length; None is a run that diverged."""
    store, runs = Store(folder), []
    for name, values in scores.items():
        for seed, value in enumerate(values):
            run = synthetic.run(name, task, seed=seed)
            metrics = {"test_score": value, "val_score": value}
            more = {"metrics": metrics} if value is not None else {}
            store.write(synthetic.row(run, "ok" if value is not None else "diverged", **more))
            runs.append(run)
    study = synthetic.study(runs, folder)
    return statistics.with_ranks(summarise(complete(study, store)))


def ranks(cells: pd.DataFrame) -> dict[str, Any]:
    return dict(zip(cells["architecture"], cells["rank"], strict=True))


@pytest.mark.parametrize(("task", "best"), [("mqar", "gru"), ("adding", "rnn")])
def test_overlapping_intervals_share_a_rank_in_either_direction(
    tmp_path: Path, task: str, best: str
) -> None:
    given: dict[str, list[float | None]] = {
        "rnn": [0.1, 0.101],
        "lstm": [0.5, 0.51],
        "lstm_stack": [0.52, 0.53],
        "gru": [0.8, 0.801],
    }
    found = ranks(with_scores(tmp_path, given, task))
    worst = "rnn" if best == "gru" else "gru"
    assert found == {best: 1, "lstm": 2, "lstm_stack": 2, worst: 4}


def test_one_seed_gets_no_rank_and_no_mean_rank(tmp_path: Path) -> None:
    cells = with_scores(tmp_path, {"rnn": [0.1], "lstm": [0.5, 0.6]})
    assert pd.isna(ranks(cells)["rnn"])
    refused = {one.architecture: one.refused for one in statistics.overall(cells)}
    assert "one seed has no interval" in refused["rnn"]
    assert refused["lstm"] == ""


def test_a_mean_rank_is_refused_where_a_seed_is_lost(tmp_path: Path) -> None:
    cells = with_scores(tmp_path, {"rnn": [0.8, 0.801, None], "lstm": [0.5, 0.51, 0.51]})
    first, last = statistics.overall(cells)
    assert (first.architecture, first.mean_rank) == ("lstm", 2.0)
    assert last.mean_rank is None
    assert last.refused == "mqar at 128: 1 diverged of 3 seeds"


def test_a_mean_rank_is_refused_where_a_cell_is_not_in_the_study(tmp_path: Path) -> None:
    runs = [synthetic.run("rnn", length=n, seed=s) for n in (128, 256) for s in (0, 1)]
    runs += [synthetic.run("lstm", seed=s) for s in (0, 1)]
    store = Store(tmp_path)
    synthetic.fill(store, runs)
    cells = summarise(complete(synthetic.study(runs, tmp_path), store))
    refused = {
        one.architecture: one.refused for one in statistics.overall(statistics.with_ranks(cells))
    }
    assert refused == {"rnn": "", "lstm": "mqar at 256 is not in the study"}


@pytest.mark.parametrize(
    ("kernel", "expected"),
    [
        ("reference", "reference"),
        ("reference-chunked", "reference"),
        ("chunked+reference", "reference"),
        ("chunked", "library"),
        ("fft", "library"),
        ("native-cpu+sdpa-flash", "library"),
        ("cudnn", "library"),
        ("sdpa-flash", "library"),
        (None, "unknown"),
        (float("nan"), "unknown"),
    ],
)
def test_reference_kernels_are_told_from_library_ones(kernel: Any, expected: str) -> None:
    assert statistics.kernel_class(kernel) == expected


def test_the_leaderboard_says_what_is_to_be_said(tmp_path: Path) -> None:
    study, store = filled(tmp_path, architectures=("rnn", "mamba", "transformer"))
    text = leaderboard.render(study, store)["LEADERBOARD.md"].decode()
    assert "# Seven architectures at four lengths" in text
    assert "*chance*" in text
    assert "| 3 oom; 1 oom in measuring " in text
    assert "refused: adding at 8192: 3 oom of 3 seeds" in text
    assert "Missing: mamba on mqar at 8192" in text
    assert "hardware: Imaginary 9000, 2 cores, 1 used" in text
    for line in text.splitlines():
        if line.startswith("|") and "tokens" not in line and "reference" in line:
            assert "] †" in line
        elif line.startswith("|") and "aten" in line:
            assert "†" not in line
    assert str(tmp_path) not in text


def test_different_hardware_or_precision_in_one_ranking_is_said(tmp_path: Path) -> None:
    store = Store(tmp_path)
    runs: list[Run] = []
    for name, device in (("rnn", "cpu"), ("lstm", "NVIDIA H100")):
        for run in synthetic.runs((name,), ("mqar",), (128,)):
            provenance = {**synthetic.PROVENANCE, "device": device}
            store.write(synthetic.row(run, provenance=provenance))
            runs.append(run)
    content = leaderboard.render(synthetic.study(runs, tmp_path), store, across=True)
    text = content["LEADERBOARD.md"].decode()
    assert "**Not alike:** measured on Imaginary 9000, 2 cores, 1 used and NVIDIA H100." in text


def test_speeds_at_different_batch_sizes_are_not_silently_side_by_side(tmp_path: Path) -> None:
    one, two = synthetic.measuring("lstm"), synthetic.measuring("gru")
    store = Store(tmp_path)
    for run, tokens in ((one, 128), (two, 16384)):
        row = synthetic.row(run)
        store.write(row.model_copy(update={"metrics": {**row.metrics, "tokens_per_batch": tokens}}))
    study = synthetic.study([one, two], tmp_path)
    text = leaderboard.render(study, store)["LEADERBOARD.md"].decode()
    assert "**Not alike:** measured with 128 and 16,384 tokens a batch." in text


def test_a_second_measurement_of_a_cell_is_mentioned(tmp_path: Path) -> None:
    given = {"training": {"steps": 0}, "measure": {"instruments": ["throughput"]}}
    runs = [synthetic.run(**given), synthetic.run(**{**given, "resources": {"threads": 2}})]
    store = Store(tmp_path)
    for run in runs:
        store.write(synthetic.row(run))
    (cell,) = summarise(complete(synthetic.study(runs, tmp_path), store)).to_dict("records")
    assert cell["measure_problems"] == "1 not shown"


def test_runs_on_other_resources_are_no_further_seeds(tmp_path: Path) -> None:
    runs = [
        synthetic.run(seed=seed, resources={"threads": threads})
        for seed in (0, 1)
        for threads in (1, 2)
    ]
    store = Store(tmp_path)
    for run in runs:
        store.write(synthetic.row(run))
    (cell,) = summarise(complete(synthetic.study(runs, tmp_path), store)).to_dict("records")
    assert (cell["n_seeds"], cell["n_wanted"], cell["n_settings"]) == (2, 2, 2)


def test_the_settings_tried_and_their_window_are_printed(tmp_path: Path) -> None:
    study, store = filled(tmp_path, learning_rates=(0.001, 0.003, 0.01), lengths=(128,))
    text = leaderboard.render(study, store)["LEADERBOARD.md"].decode()
    assert "of [0.001, 0.01]" in text


def test_the_leaderboard_is_the_same_twice_live_and_packed(tmp_path: Path) -> None:
    study, store = filled(tmp_path)
    written = leaderboard.write(study, store)
    first = {path.name: path.read_bytes() for path in written}
    assert set(first) == {"LEADERBOARD.md", "leaderboard.csv", "leaderboard_overall.csv"}
    leaderboard.write(study, store)
    assert {path.name: path.read_bytes() for path in written} == first
    store.pack()
    assert leaderboard.render(study, store) == first
    assert leaderboard.check(study, store) == []


def test_a_stale_leaderboard_is_found(tmp_path: Path) -> None:
    study, store = filled(tmp_path)
    assert leaderboard.check(study, store) == [
        tmp_path / "LEADERBOARD.md",
        tmp_path / "leaderboard.csv",
        tmp_path / "leaderboard_overall.csv",
    ]
    leaderboard.write(study, store)
    store.remove([study.runs[0].id])
    assert tmp_path / "LEADERBOARD.md" in leaderboard.check(study, store)


def test_the_hash_seed_changes_no_byte(tmp_path: Path) -> None:
    """Sets of strings have another order under another seed; this process has a random one."""
    study, store = filled(tmp_path)
    program = (
        "import pathlib, sys; from bench.records.store import Store; "
        "from bench.report import leaderboard, page; from tests import synthetic; "
        f"folder = pathlib.Path(sys.argv[1]); runs = synthetic.runs(**{SMALL!r}); "
        "study, store = synthetic.study(runs, folder), Store(folder); "
        "page.write(study, store, folder / 'report.html'); leaderboard.write(study, store)"
    )
    subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)],
        env={**os.environ, "PYTHONHASHSEED": "1", "PYTHONPATH": str(Path(__file__).parents[1])},
        check=True,
    )
    assert leaderboard.check(study, store) == []
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == page.render(study, store)


def hostile(folder: Path) -> tuple[Study, Store]:
    """Names that try to be more than names, in every place that holds a name."""
    runs, store = [], Store(folder)
    for index, name in enumerate(HOSTILE):
        for seed in range(2):
            run = synthetic.run(
                {"name": "lstm", "label": name, "layers": index + 1},
                {"name": "mqar", "label": HOSTILE[-1 - index], "pairs": index + 1},
                seed=seed,
            )
            changes: dict[str, Any] = {
                "kernel": name,
                "scored": Scored(metric=name, unit=name, higher_is_better=True, chance=0.1),
                "provenance": {**synthetic.PROVENANCE, "processor": name},
            }
            bad = {"reason": name, "metrics": {}} if seed else {}
            store.write(synthetic.row(run, "failed" if seed else "ok", **{**changes, **bad}))
            runs.append(run)
    return synthetic.study(runs, folder, title=HOSTILE[0], question=HOSTILE[0]), store


def test_hostile_names_stay_text(tmp_path: Path) -> None:
    study, store = hostile(tmp_path)
    html = page.render(study, store)
    assert "<script>alert" not in html
    assert "&lt;script&gt;alert" in html
    assert html.count("</script>") == 3  # the page's own
    board = leaderboard.render(study, store)["LEADERBOARD.md"].decode()
    assert board.replace(r"\<", "").count("<script>") == 0
    tables = re.findall(r"(?:^\|.*\n)+", board, re.MULTILINE)
    assert len(tables) == 1 + len(HOSTILE)
    for table in tables:  # no cell was split
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}) == 1
    images.write(joined([(study, store)]), tmp_path / "charts")


@pytest.mark.parametrize(
    "shape",
    [
        {"architectures": ("lstm",), "tasks": ("mqar",), "lengths": (128,), "seeds": 1},
        {"architectures": ("transformer",), "lengths": (8192,)},
    ],
    ids=["one row", "nothing ended well"],
)
def test_little_to_show_is_still_shown(tmp_path: Path, shape: dict[str, Any]) -> None:
    study, store = filled(tmp_path, **shape)
    assert "Who leads" in page.render(study, store)
    assert leaderboard.write(study, store)
    images.write(joined([(study, store)]), tmp_path / "charts")


def test_no_rows_at_all_are_still_a_page_that_says_so(tmp_path: Path) -> None:
    study, store = synthetic.study(synthetic.runs(**SMALL), tmp_path), Store(tmp_path)
    html = page.render(study, store)
    assert f"{len(study.runs)} missing" in html
    assert "no rows yet" in html
    assert images.write(joined([(study, store)]), tmp_path / "charts") == []


def test_failures_are_drawn_and_never_as_points(tmp_path: Path) -> None:
    study, store = filled(tmp_path)
    cells = summarise(complete(study, store))
    cells = cells[cells["task"] == "mqar"]
    for quantity in (SCORE, TRAIN_SPEED):
        drawn = {(point["architecture"], point["length"]) for point in points(cells, quantity)}
        lost = {(mark["architecture"], mark["length"]) for mark in failures(cells, quantity)}
        assert lost == {("transformer", 8192)}
        assert not drawn & lost
        assert len(drawn | lost) == len(cells)


def test_a_look_belongs_to_one_architecture() -> None:
    found = looks([f"architecture {index}" for index in range(56)])
    assert len({(look.colour, look.shape) for look in found}) == 56


def test_images_are_the_same_twice(tmp_path: Path) -> None:
    study, store = filled(tmp_path, lengths=(128,))
    first = images.write(joined([(study, store)]), tmp_path / "a")
    second = images.write(joined([(study, store)]), tmp_path / "b")
    assert [path.name for path in first] == [path.name for path in second]
    assert {"score.svg", "score.png"} <= {path.name for path in first}
    for one, other in zip(first, second, strict=True):
        assert one.read_bytes() == other.read_bytes()
    png = next(path for path in first if path.suffix == ".png").read_bytes()
    assert png.startswith(b"\x89PNG")


def test_a_column_of_one_digit_keeps_its_rule() -> None:
    _, rule, _ = markdown.table(["a", "n"], [["x", "3"]], right=(1,)).splitlines()
    assert rule == "| -- | -: |"
