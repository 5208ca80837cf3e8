"""Runs to job arrays: nothing is lost, cells that need different things never share a job."""

import random

import pytest

from bench.launch.slurm.shapes import OVERHEAD_S, UNKNOWN_CELL_S, Estimate, arrays, shape_of
from bench.records.row import Row
from bench.spec import Run, parse_run


def a_run(architecture: str = "gru", length: int = 12, seed: int = 0, **changes: object) -> Run:
    base = {"architecture": architecture, "task": "parity", "length": length, "width": 16}
    return parse_run({**base, "seed": seed, **changes})


def a_row(run: Run, seconds: float, status: str = "ok") -> Row:
    return Row(
        id=run.id,
        study="s",
        status=status,
        run=run.model_dump(mode="json"),
        provenance={"seconds": seconds},
    )


def test_every_cell_is_in_one_element_and_an_element_has_one_shape():
    runs = [
        a_run(architecture, length, seed, resources={"threads": threads, "devices": devices})
        for architecture in ("gru", "rnn", "lstm")
        for length in (12, 24)
        for seed in range(4)
        for threads in (1, 2)
        for devices in (1, 2)
    ]
    random.Random(0).shuffle(runs)
    found = arrays(runs, Estimate([]), 180.0, 1001)
    assert len(found) == 4
    assert len({array.shape for array in found}) == 4
    packed = [run for array in found for element in array.elements for run in element.runs]
    assert sorted(run.id for run in packed) == sorted(run.id for run in runs)
    for array in found:
        for element in array.elements:
            assert {shape_of(run) for run in element.runs} == {array.shape}
            assert array.shape.n_ranks == 1 or len(element.runs) == 1


def test_an_element_runs_for_about_the_target():
    runs = [a_run(seed=seed) for seed in range(100)]
    estimate = Estimate([a_row(runs[0], 9.0), a_row(runs[1], 11.0), a_row(runs[2], 999.0, "oom")])
    (array,) = arrays(runs, estimate, 103.0, 1001)
    assert {len(element.runs) for element in array.elements} == {10}
    assert array.elements[0].seconds == pytest.approx(10 * (10.0 + OVERHEAD_S))


def test_a_cell_longer_than_the_target_has_an_element_of_its_own():
    runs = [a_run(seed=seed) for seed in range(3)]
    (array,) = arrays(runs, Estimate([a_row(runs[0], 500.0)]), 60.0, 1001)
    assert [len(element.runs) for element in array.elements] == [1, 1, 1]


def test_cells_of_a_kind_stand_together():
    runs = [a_run(name, seed=seed) for seed in range(6) for name in ("gru", "rnn")]
    rows = [a_row(a_run("gru", seed=99), 10.0), a_row(a_run("rnn", seed=99), 10.0)]
    (array,) = arrays(runs, Estimate(rows), 3 * (10.0 + OVERHEAD_S), 1001)
    assert [{run.architecture.name for run in element.runs} for element in array.elements] == [
        {"gru"},
        {"gru"},
        {"rnn"},
        {"rnn"},
    ]


def test_the_time_is_of_the_same_kind_then_of_the_study_then_a_guess():
    estimate = Estimate([a_row(a_run(seed=1), 4.0), a_row(a_run("rnn", seed=1), 8.0)])
    assert estimate.seconds(a_run(seed=2)) == 4.0 + OVERHEAD_S
    assert estimate.seconds(a_run("lstm")) == 6.0 + OVERHEAD_S
    assert Estimate([]).seconds(a_run()) == UNKNOWN_CELL_S + OVERHEAD_S


@pytest.mark.parametrize("limit", [1, 7, 64])
def test_an_array_has_no_more_elements_than_it_may(limit):
    runs = [a_run(seed=seed) for seed in range(100)]
    (array,) = arrays(runs, Estimate([]), 1.0, limit)
    assert limit / 2 < len(array.elements) <= limit
    assert array.n_cells == 100


def test_cells_of_several_processes_beyond_the_limit_are_left_for_the_next_sweep():
    runs = [a_run(seed=seed, resources={"devices": 2}) for seed in range(5)]
    (array,) = arrays(runs, Estimate([]), 1e6, 3)
    assert [len(element.runs) for element in array.elements] == [1, 1, 1]


def test_what_is_timed_together_is_one_element():
    measure = {"training": {"steps": 0}, "measure": {"instruments": ["throughput"]}}
    runs = [a_run(length=length, **measure) for length in range(8, 78)] + [a_run()]
    found = arrays(runs, Estimate([]), 1.0, 1001)
    by_purpose = {array.shape.purpose: array for array in found}
    assert [len(element.runs) for element in by_purpose["measure"].elements] == [64, 6]
