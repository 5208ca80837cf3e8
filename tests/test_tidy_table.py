"""The tidy table and its cells: what is missing stays so, and nothing is averaged with it."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from bench.errors import UserError
from bench.records import bootstrap, markdown
from bench.records.expected import complete, foreign
from bench.records.store import Store
from bench.records.summary import lines_of, summarise
from bench.records.table import FORMATS, render
from tests import synthetic

RESAMPLING_NOISE = 0.01  # of two bootstraps with other random numbers, values being of order 1


def bytes_below(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def cells_of(store: Store, runs: list[Any]) -> dict[tuple[Any, ...], dict[str, Any]]:
    cells = lines_of(summarise(complete(synthetic.study(runs, store.folder), store)))
    return {(cell["task"], cell["length"], cell["architecture"]): cell for cell in cells}


def scored(score: float | None, val: float | None = None, **more: Any) -> dict[str, Any]:
    return {"test_score": score, "val_score": score if val is None else val, **more}


def test_readers_change_no_file(filled: Store) -> None:
    filled.pack()
    synthetic.fill(filled, synthetic.runs(("gru",), lengths=(128,)))
    before = bytes_below(filled.folder)
    runs = [*synthetic.runs(**synthetic.SMALL), *synthetic.runs(("gru",), lengths=(128,))]
    study = synthetic.study(runs, filled.folder)
    first = [render(complete(study, filled), format_) for format_ in FORMATS]
    second = [render(complete(study, filled), format_) for format_ in FORMATS]
    assert first == second
    assert bytes_below(filled.folder) == before


def test_the_tidy_table_has_a_line_per_run_and_leaves_holes_empty(filled: Store) -> None:
    runs = [*synthetic.runs(**synthetic.SMALL), synthetic.run("gru")]
    frame = complete(synthetic.study(runs, filled.folder), filled)
    assert list(frame["id"]) == [run.id for run in runs]
    assert frame["status"].iloc[-1] == "missing"
    bad = frame[frame["status"].isin(["missing", "oom"])]
    assert len(bad) > 1
    assert bad[["test_score", "train_tokens_per_s", "peak_bytes"]].isna().all(axis=None)
    csv = pd.read_csv(io.BytesIO(render(frame, "csv")))
    as_json = json.loads(render(frame, "json"))
    assert len(csv) == len(as_json) == len(frame)
    assert as_json[0]["test_score"] == frame["test_score"].iloc[0] == csv["test_score"].iloc[0]
    assert as_json[-1]["test_score"] is None
    assert len(pd.read_parquet(io.BytesIO(render(frame, "parquet")))) == len(frame)


def test_labels_are_those_of_the_study_not_of_the_row(store: Store) -> None:
    store.write(synthetic.row(synthetic.run({"name": "lstm", "label": "then"})))
    now = synthetic.run({"name": "lstm", "label": "now"})
    assert list(complete(synthetic.study([now], store.folder), store)["architecture"]) == ["now"]


def test_one_label_for_two_architectures_is_refused(store: Store) -> None:
    pair = [synthetic.run({"name": "lstm", "label": "x", "layers": n}) for n in (1, 2)]
    with pytest.raises(UserError, match="label 'x' names two different architectures"):
        complete(synthetic.study(pair, store.folder), store)


def test_rows_of_another_spec_are_named_with_the_nearest_run(store: Store) -> None:
    given = synthetic.run("lstm", training={"steps": 300})
    store.write(synthetic.row(given))
    wanted = [synthetic.run(name, training={"steps": 400}) for name in ("gru", "lstm")]
    study = synthetic.study(wanted, store.folder)
    with pytest.raises(UserError) as caught:
        complete(study, store)
    text = str(caught.value)
    assert f"1 row of no run of the study, the first {given.id}" in text
    assert "nearest is lstm" in text
    assert "training.steps: 300 in the row, 400 in the study" in text
    assert "bench prune" in text
    assert foreign(study, store) == {given.id}
    store.set_aside(foreign(study, store))
    assert set(complete(study, store)["status"]) == {"missing"}


def test_no_rows_is_a_table_of_missing_runs(store: Store) -> None:
    study = synthetic.study(synthetic.runs(**synthetic.SMALL), store.folder)
    frame = complete(study, store)
    assert set(frame["status"]) == {"missing"}
    assert f"{len(study.runs)} missing" in render(frame, "md").decode()


def test_what_is_missing_is_never_averaged(store: Store) -> None:
    runs = [synthetic.run(seed=seed) for seed in range(4)]
    store.write(synthetic.row(runs[0], metrics=scored(0.5)))
    store.write(synthetic.row(runs[1], metrics=scored(0.7)))
    store.write(synthetic.row(runs[2], metrics=scored(float("nan"))))
    store.write(synthetic.row(runs[3], "diverged"))
    cell = cells_of(store, [*runs, synthetic.run(seed=4)])[("mqar", 128, "lstm")]
    assert cell["score"] == pytest.approx(0.6)
    assert (cell["n_seeds"], cell["n_wanted"]) == (2, 5)
    assert cell["problems"] == "1 diverged, 1 missing, 1 without score"


@pytest.mark.parametrize(("task", "chosen"), [("mqar", 0.001), ("adding", 0.003)])
def test_val_selects_and_test_is_reported(store: Store, task: str, chosen: float) -> None:
    """Test would have chosen the other learning rate in either direction."""
    runs = {
        (rate, seed): synthetic.run(
            task=task, seed=seed, training={"steps": 300, "learning_rate": rate}
        )
        for rate in (0.001, 0.003)
        for seed in range(2)
    }
    for (rate, _), run in runs.items():
        high_val = rate == 0.001
        metrics = scored(0.2 if high_val else 0.9, val=0.8 if high_val else 0.3)
        store.write(synthetic.row(run, metrics=metrics))
    cell = cells_of(store, list(runs.values()))[(task, 128, "lstm")]
    assert cell["learning_rate"] == chosen
    assert cell["score"] == (0.2 if chosen == 0.001 else 0.9)
    assert cell["n_settings"] == 2
    assert (cell["learning_rate_low"], cell["learning_rate_high"]) == (0.001, 0.003)


def test_a_setting_that_lost_a_seed_is_not_chosen_for_the_survivors(store: Store) -> None:
    runs = [
        synthetic.run(seed=seed, training={"steps": 300, "learning_rate": rate})
        for rate in (0.001, 0.01)
        for seed in range(2)
    ]
    for run, value in zip(runs, (0.5, 0.5, 0.9, None), strict=True):
        bad = value is None
        more = {} if bad else {"metrics": scored(value)}
        store.write(synthetic.row(run, "diverged" if bad else "ok", **more))
    cell = cells_of(store, runs)[("mqar", 128, "lstm")]
    assert (cell["learning_rate"], cell["score"], cell["n_seeds"]) == (0.001, 0.5, 2)
    assert (cell["problems"], cell["other_problems"]) == ("", "1 diverged")


def settings_of(store: Store, by_rate: dict[float, list[float | str]]) -> dict[str, Any]:
    """The cell of {learning rate: [score of each seed, or how it ended]}."""
    runs = []
    for rate, values in by_rate.items():
        for seed, value in enumerate(values):
            run = synthetic.run(seed=seed, training={"steps": 300, "learning_rate": rate})
            runs.append(run)
            if isinstance(value, float):
                store.write(synthetic.row(run, metrics=scored(value)))
            elif value != "missing":
                store.write(synthetic.row(run, value))  # type: ignore[arg-type]
    return cells_of(store, runs)[("mqar", 128, "lstm")]


@pytest.mark.parametrize(
    ("many", "n_seeds", "problems"),
    [
        ([0.5, 0.5, 0.5, 0.5, 0.5], 5, ""),
        ([0.5, 0.5, 0.5, 0.5, "diverged"], 4, "1 diverged"),
        ([0.5, 0.5, 0.5, "missing", "missing"], 3, "2 missing"),
    ],
)
def test_one_lucky_seed_is_not_chosen_over_several(
    store: Store, many: list[float | str], n_seeds: int, problems: str
) -> None:
    cell = settings_of(store, {0.001: many, 0.01: [0.9]})
    assert (cell["learning_rate"], cell["score"]) == (0.001, 0.5)
    assert (cell["n_seeds"], cell["problems"]) == (n_seeds, problems)
    assert cell["n_settings"] == 2


def test_what_ended_badly_was_tried_and_what_never_ran_was_not(store: Store) -> None:
    given: dict[float, list[float | str]] = {
        0.001: [0.5, 0.6],
        0.01: ["diverged", "diverged"],
        0.1: ["oom", "missing"],
        1.0: ["missing", "preempted"],
    }
    cell = settings_of(store, given)
    assert cell["n_settings"] == 3
    assert (cell["learning_rate_low"], cell["learning_rate_high"]) == (0.001, 0.1)


def test_nothing_run_is_nothing_tried(store: Store) -> None:
    cell = settings_of(store, {0.001: ["missing"]})
    assert (cell["n_settings"], cell["learning_rate_low"]) == (0, 0.001)


def test_one_seed_has_no_interval_and_equal_seeds_have_one_of_no_width(store: Store) -> None:
    one, *two = [synthetic.run(length=128), *(synthetic.run(length=256, seed=s) for s in (0, 1))]
    for run in (one, *two):
        store.write(synthetic.row(run, metrics=scored(0.5)))
    cells = cells_of(store, [one, *two])
    assert np.isnan(cells[("mqar", 128, "lstm")]["score_low"])
    assert cells[("mqar", 256, "lstm")]["score_low"] == 0.5
    text = render(complete(synthetic.study([one, *two], store.folder), store), "md").decode()
    assert "0.5000 ± 0 " in text
    assert "| 0.5000 " in text


def test_a_length_that_only_was_measured_appears_with_its_speed(store: Store) -> None:
    runs = [synthetic.run(length=128), synthetic.measuring(length=4096)]
    for run in runs:
        store.write(synthetic.row(run))
    cell = cells_of(store, runs)[("mqar", 4096, "lstm")]
    assert cell["n_wanted"] == 0
    assert cell["train_tokens_per_s"] > 0
    assert cell["metric"] == "accuracy"  # known from the other length


def test_observed_speed_of_a_training_run_is_no_measurement(store: Store) -> None:
    run = synthetic.run()
    store.write(synthetic.row(run))
    assert np.isnan(cells_of(store, [run])[("mqar", 128, "lstm")]["train_tokens_per_s"])


@pytest.mark.parametrize("n_seeds", [2, 3, 5, 9])
def test_the_interval_is_that_of_scipy_widened_for_few_seeds(n_seeds: int) -> None:
    values = np.random.default_rng(1).random((4, n_seeds))
    low, high = bootstrap.interval(values)
    factor = bootstrap.stretch(n_seeds)
    for line, ours in zip(values, zip(low, high, strict=True), strict=True):
        found = stats.bootstrap(
            (line,), np.mean, method="percentile", n_resamples=20_000, rng=np.random.default_rng(2)
        ).confidence_interval
        widened = [line.mean() + factor * (end - line.mean()) for end in found]
        assert ours == pytest.approx(widened, abs=factor * RESAMPLING_NOISE)


def test_the_quantiles_are_student_s() -> None:
    for freedom in (*range(1, 30), 100, 10_000):
        expected = stats.t.ppf(0.975, freedom)
        assert bootstrap.student(freedom) == pytest.approx(expected, abs=0.001)
    assert bootstrap.stretch(100_000) == pytest.approx(1.0, abs=0.001)


@pytest.mark.parametrize("n_seeds", [2, 3, 5, 10])
def test_an_interval_holds_the_mean_as_often_as_it_says(n_seeds: int) -> None:
    """Of two seeds their range would in half of all cases, of three in three quarters."""
    values = np.random.default_rng(n_seeds).normal(size=(4000, n_seeds))
    low, high = bootstrap.interval(values)
    assert 0.92 < ((low <= 0) & (high >= 0)).mean() < 0.98


@pytest.mark.parametrize("n_seeds", [2, 3, 5])
def test_equal_architectures_seldom_get_two_ranks(n_seeds: int) -> None:
    first, second = np.random.default_rng(n_seeds).normal(size=(2, 2000, n_seeds))
    (low, high), (other_low, other_high) = bootstrap.interval(first), bootstrap.interval(second)
    assert ((low > other_high) | (other_low > high)).mean() < 0.05


def test_the_interval_of_a_fraction_stays_between_0_and_1(store: Store) -> None:
    runs = [synthetic.run(task=task, seed=seed) for task in ("mqar", "adding") for seed in (0, 1)]
    for run in runs:
        store.write(synthetic.row(run, metrics=scored(0.99 - 0.05 * run.seed)))
    cells = cells_of(store, runs)
    fraction, error = cells[("mqar", 128, "lstm")], cells[("adding", 128, "lstm")]
    assert fraction["score_high"] == 1.0
    assert error["score_high"] > 1.0  # of a squared error no end is known
    assert fraction["score_low"] == error["score_low"]


def test_an_interval_depends_on_its_own_values_only() -> None:
    values = np.random.default_rng(1).random((3000, 7))
    low, high = bootstrap.interval(values)
    alone = bootstrap.interval(values[1234:1235])
    assert (low[1234], high[1234]) == (alone[0][0], alone[1][0])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (markdown.number(0.91299), "0.9130"),
        (markdown.number(12.3456), "12.35"),
        (markdown.number(0.0), "0"),
        (markdown.number(1.23e-7), "1.23e-07"),
        (markdown.number(None), ""),
        (markdown.number(pd.NA), ""),
        (markdown.with_interval(0.9123, 0.9, 0.924), "0.912 ± 0.012"),
        (markdown.with_interval(0.9123, None, None), "0.9123"),
        (markdown.count(123456, 3), "123,000"),
        (markdown.count(1.234, 3), "1.23"),
        (markdown.bytes_text(20 * 2**20), "20.0"),
        (markdown.escape("a|b\n<c>\x1b[31m"), r"a\|b \<c> [31m"),
        (markdown.escape("0.91 [0.90, 0.92]"), "0.91 [0.90, 0.92]"),
        (markdown.escape("[a](b) [c][d]"), r"\[a](b) \[c]\[d]"),
        (markdown.escape("python_bytes __init__"), r"python_bytes \_\_init\_\_"),
        (markdown.escape("AT&T &amp; ~2 ~~x~~"), r"AT&T \&amp; ~2 \~~x\~~"),
    ],
)
def test_numbers_and_names_in_tables(text: str, expected: str) -> None:
    assert text == expected
