"""Streams and gradient reach as tables: what was measured is shown, and what was not is said."""

import io
from collections.abc import Sequence

import pandas as pd
import pytest

from bench.report import reach, streams
from bench.spec import Run, parse_run

COMMON = {
    "task": "a|task",
    "length": 64,
    "seed": 0,
    "kernel": "native-cpu",
    "precision": "32-true",
    "hardware": "a processor, 1 used",
}


def stream(architecture: str, **measured: object) -> dict[str, object]:
    return {**COMMON, "id": architecture, "architecture": architecture, **measured}


@pytest.fixture
def streamed() -> pd.DataFrame:
    flat = {
        "stream_us_p50_at_1": 10.0,
        "stream_us_p50_at_1_low": 9.0,
        "stream_us_p50_at_1_high": 12,
        "stream_us_p50_at_1000": 11.0,
        "stream_us_p99_at_1000": 20.0,
        "stream_state_bytes_at_1": 512.0,
        "stream_state_bytes_at_1000": 512.0,
        "stream_latency_verdict": "flat",
        "stream_state_verdict": "flat",
        "stream_drift_at_1000": 2e-7,
    }
    growing = {
        "stream_us_p50_at_1": 30.0,
        "stream_state_bytes_at_1": 2048.0,
        "stream_at_1000_missing": "no time",
        "stream_state_verdict": "growing",
        "stream64_us_p50_at_1": 99.0,
        "stream64_state_bytes_at_1": 131072.0,
    }
    return pd.DataFrame.from_records(
        [stream("lstm", **flat), stream("transformer", **growing), stream("never")]
    )


def test_a_stream_is_a_line_with_every_position_and_its_interval(streamed: pd.DataFrame) -> None:
    one, several = streams.as_markdown(streamed).split("64 streams side by side")
    lines = {line.split("|")[1].strip(): line for line in one.splitlines() if line.startswith("| ")}
    assert "10.0 \\[9.00, 12.0]" in lines["lstm"]
    assert "| 512 " in lines["lstm"]
    assert "2e-07" in lines["lstm"]
    assert "no time" in lines["transformer"]
    assert "growing" in lines["transformer"]
    assert "never" not in one
    assert "99.0" in several
    assert "lstm" not in several.partition("- **At P**")[0]


def test_streams_as_csv_hold_numbers_by_position(streamed: pd.DataFrame) -> None:
    read = pd.read_csv(io.StringIO(streams.as_csv(streamed)))
    assert list(read["position"]) == [1, 1000, 1, 1000, 1]
    assert list(read["n_streams"]) == [1, 1, 1, 1, 64]
    assert read["us_p50"].isna().sum() == 1
    assert list(read["missing"].dropna()) == ["no time"]


def test_reach_names_what_tells_two_trainings_apart() -> None:
    runs = [training(clip_norm=1.0), training(clip_norm=None), training(clip_norm=1.0, seed=1)]
    told = reach.told_apart(runs)
    assert [told[run.id] for run in runs] == ["clip_norm=1.0", "clip_norm=none", "clip_norm=1.0"]
    assert set(reach.told_apart(runs[:1]).values()) == {""}


def test_what_others_train_with_tells_no_reach_apart() -> None:
    measured = training(clip_norm=1.0)
    other = training(clip_norm=None, instruments=["throughput"])
    assert reach.told_apart([measured, other]) == {measured.id: ""}


def training(
    clip_norm: float | None, seed: int = 0, instruments: Sequence[str] = (reach.INSTRUMENT,)
) -> Run:
    return parse_run(
        {
            "architecture": "rnn",
            "task": "parity",
            "length": 64,
            "seed": seed,
            "training": {"steps": 0, "clip_norm": clip_norm},
            "measure": {"instruments": list(instruments)},
        }
    )


@pytest.fixture
def reached() -> pd.DataFrame:
    one = {
        "reach_input_init_verdict": "vanishing",
        "reach_input_init_decay_tokens": 9.5,
        "reach_input_init_decay_tokens_low": 9.0,
        "reach_input_init_decay_tokens_high": 10.0,
        "reach_input_init_effective_tokens": 40.0,
        "reach_input_limit_tokens": 63.0,
        "reach_input_trained_verdict": "flat",
        "reach_input_trained_effective_tokens": 63.0,
        "jacobian_init_max": 0.9,
        "jacobian_trained_max": 1.25,
        "clipped_share": 0.5,
    }
    return pd.DataFrame.from_records([stream("rnn", **one), stream("never")])


def test_lengths_and_seeds_of_reach_are_told_apart(reached: pd.DataFrame) -> None:
    again = reached.assign(id="again", seed=7)
    longer = reached.assign(id="longer", length=4096)
    short, long = reach.tables(pd.concat([reached, again, longer]), {})
    assert short.title == "a|task, length 64: norm of dL_t/dx_(t-k) against k"
    assert "length 4,096" in long.title
    assert [line[2] for line in short.table.lines] == ["0", "7"]
    assert [line[2] for line in long.table.lines] == [""]  # one seed: nothing to tell apart


def test_reach_shows_both_stages_and_bounds_what_was_not_seen_to_end(reached: pd.DataFrame) -> None:
    text = reach.as_markdown(reached, {"rnn": "clip_norm=1.0"})
    (line,) = (line for line in text.splitlines() if line.startswith("| rnn"))
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert cells[1] == "clip_norm=1.0"
    assert cells[2:6] == ["vanishing", "9.50 [9.00, 10.0]", "40", "0.900"]
    assert cells[6:] == ["flat", "≥ 63", "1.25", "50%"]  # no decay at all: no column for it
    assert "never" not in text


def test_reach_as_csv_is_a_line_for_each_stage(reached: pd.DataFrame) -> None:
    read = pd.read_csv(io.StringIO(reach.as_csv(reached, {})))
    assert list(read["stage"]) == ["init", "trained"]
    assert read["clipped_share"].isna().tolist() == [True, False]


def test_nothing_measured_is_said() -> None:
    nothing = pd.DataFrame.from_records([stream("never")])
    assert streams.as_markdown(nothing) == "no stream was measured\n"
    assert reach.as_markdown(nothing, {}) == "no gradient was measured\n"
