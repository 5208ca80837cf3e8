"""What may be called a difference of speeds, and what may not stand side by side at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from bench.errors import UserError
from bench.records import difference, noise, table
from bench.records.expected import complete
from bench.records.store import Store
from bench.records.summary import summarise
from bench.report import leaderboard, page, sections, statistics
from bench.study import Study
from tests import synthetic


@pytest.mark.parametrize(
    ("floors", "least"),
    [((), 1.1), ((1.0, 1.0), 1.1), ((1.03, None), 1.1), ((1.01, 1.05), 1.15), ((2.0,), 4.0)],
)
def test_a_difference_is_a_tenth_or_three_times_the_gap_of_a_cell_to_itself(floors, least):
    assert noise.least_ratio(floors) == pytest.approx(least)
    for factor, found in ((0.999, False), (1.001, True)):
        assert noise.differ(100.0, 100.0 * least * factor, floors) is found
        assert noise.differ(100.0 * least * factor, 100.0, floors) is found


@pytest.mark.parametrize(
    ("references", "drift"), [((), 1.0), ((2.0, None), 1.0), ((2.0, 2.5), 1.25), ((2.5, 2.0), 1.25)]
)
def test_a_difference_of_two_sessions_is_beyond_the_drift_of_the_machine(references, drift):
    assert noise.drift(references) == pytest.approx(drift)
    assert noise.least_ratio((1.05,), references) == pytest.approx(1.15 * drift)
    assert noise.differ(100.0, 100.0 * 1.151 * drift, (1.05,), references)
    assert not noise.differ(100.0 * 1.149 * drift, 100.0, (1.05,), references)


def cells(**of: tuple[float, str, float]) -> pd.DataFrame:
    """Cells of one task and length by architecture: speed, kernel, noise floor."""
    lines = [
        {"architecture": name, "train_tokens_per_s": speed, "kernel": kernel, "noise_floor": floor}
        for name, (speed, kernel, floor) in of.items()
    ]
    return pd.DataFrame(lines).assign(reference_ms=None, hardware="here")


def fastest(**of: tuple[float, str, float]) -> list[str]:
    return list(statistics.fastest(cells(**of), "train_tokens_per_s")["architecture"])


def test_speeds_that_do_not_differ_are_fastest_together():
    assert fastest(a=(100, "x", 1.0), b=(95, "x", 1.0), c=(80, "x", 1.0)) == ["a", "b"]
    assert fastest(a=(100, "x", 1.0), b=(80, "x", 1.1)) == ["a", "b"]  # 1.25 is below 1.3
    assert fastest(b=(80, "x", 1.0), a=(100, "x", 1.01)) == ["a"]


def test_a_slower_hour_of_the_machine_makes_no_cell_slower():
    two_sessions = cells(a=(100, "x", 1.0), b=(80, "x", 1.0)).assign(reference_ms=[1.0, 1.2])
    found = statistics.fastest(two_sessions, "train_tokens_per_s")
    assert list(found["architecture"]) == ["a", "b"]
    two_machines = two_sessions.assign(hardware=["here", "there"])
    found = statistics.fastest(two_machines, "train_tokens_per_s")
    assert list(found["architecture"]) == ["a"]


def test_a_reference_is_not_ranked_against_fused_kernels():
    assert fastest(a=(900, "reference", 1.0), b=(90, "onednn", 1.0)) == ["b"]
    assert fastest(a=(900, "reference", 1.0), b=(90, "reference+fft", 1.0)) == ["a"]
    mixed = cells(a=(900, "reference", 1.0), b=(90, "onednn", 1.0))
    assert sections._fastest(mixed) == "b (90.0)"
    assert sections._fastest(mixed.iloc[:1]) == "a (900) †"


def measured(folder: Path, *given: dict[str, Any]) -> tuple[Study, Store]:
    """A study of measured cells, one per change of its run and its provenance."""
    store, runs = Store(folder), []
    names = ("lstm", "gru", "rnn")
    for name, changes in zip(names, given, strict=False):
        measure = {"instruments": ["throughput"]}
        run = synthetic.run(
            name,
            training={"steps": 0, "precision": changes.get("precision", "32-true")},
            measure=measure,
        )
        provenance = {**synthetic.PROVENANCE, **changes.get("provenance", {})}
        store.write(synthetic.row(run, provenance=provenance))
        runs.append(run)
    return synthetic.study(runs, folder), store


OTHER = {"provenance": {"processor": "Other 1"}}


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        (OTHER, ("machines", "Imaginary 9000, 2 cores", "Other 1, 2 cores")),
        ({"precision": "bf16-true"}, ("precisions", "32-true", "bf16-true")),
    ],
)
def test_what_was_not_measured_alike_is_refused_unless_it_is_asked_for(tmp_path, changes, named):
    study, store = measured(tmp_path, {}, changes)
    frame = complete(study, store)
    for refused in (
        lambda: table.render(frame, "md"),
        lambda: leaderboard.render(study, store),
        lambda: page.render(study, store),
    ):
        with pytest.raises(UserError, match="--across") as error:
            refused()
        assert all(text in str(error.value) for text in named)
        assert "\n" not in str(error.value)
    texts = (
        table.render(frame, "md", across=True).decode(),
        leaderboard.render(study, store, across=True)["LEADERBOARD.md"].decode(),
        page.render(study, store, across=True),
    )
    for text, warning in zip(texts, ("warning: ", "**Not alike:** ", "Warning: "), strict=True):
        assert warning in text
        assert all(one in text for one in named[1:])
    table.render(frame, "csv")  # the rows themselves compare nothing


def test_world_sizes_are_kept_apart_too(tmp_path):
    frame = complete(*measured(tmp_path, {}, {}))
    frame["world_size"] = [1, 2]
    with pytest.raises(UserError, match="different world sizes: 1; 2"):
        table.render(frame, "md")


def test_what_was_measured_alike_is_compared_without_a_word(tmp_path):
    study, store = measured(tmp_path, {}, {})
    assert "warning" not in table.render(complete(study, store), "md").decode()
    assert difference.not_alike(summarise(complete(study, store))) == ""


def test_an_instrument_that_found_nothing_is_a_problem_of_its_cell(tmp_path):
    study, store = measured(tmp_path, {})
    (row,) = store.rows()
    metrics = {**row.metrics, "peak_bytes": None, "memory_missing": "oom: full"}
    store.remove({row.id})
    store.write(row.model_copy(update={"metrics": metrics}))
    (cell,) = summarise(complete(study, store)).to_dict("records")
    assert cell["measure_problems"] == "1 without memory"
