"""The frame of the instruments: a process each, a machine of their own, and no row lost by one."""

import importlib
import json
import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from bench.errors import UserError
from bench.measure import instruments, session
from bench.measure.instruments import Found, merged
from bench.records.row import Row
from bench.spec import parse_run

FAST = {"seconds_per_cell": 0.02, "min_rounds": 3}

SWEEP = """
import json, sys, tests.planted_instruments
from itertools import pairwise
from pathlib import Path
from bench.launch import sweep
from bench.records.store import Store
from bench.spec import parse_run
from tests.test_launch import Silent
runs = tuple(parse_run(one) for one in json.loads(sys.argv[2]))
store = Store(Path(sys.argv[1]))
sweep.sweep("test", store, sweep.Plan((), runs, 0), 2, Silent())
"""


def a_run(architecture: str = "lstm", *asked: str, **changes: object) -> dict[str, object]:
    """A measuring run as plain data: the instruments of the tests are known to no spec here."""
    return {
        "architecture": architecture,
        "task": "parity",
        "length": 12,
        "width": 16,
        "training": {"steps": 0, "batch_size": 4},
        "measure": {"instruments": list(asked), **FAST},
        **changes,
    }


def swept(folder: Path, *runs: dict[str, object], **environment: str) -> dict[str, Row]:
    """The rows of runs by architecture, measured in processes that know the tests' instruments."""
    done = subprocess.run(
        [sys.executable, "-c", SWEEP, str(folder), json.dumps(runs)],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        cwd=Path(__file__).parents[1],
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    rows = [Row.model_validate_json(path.read_text()) for path in folder.glob("rows/*.json")]
    assert not list(folder.glob("work/alone-*"))
    return {row.run["architecture"]["name"]: row for row in rows}


def test_an_instrument_measures_in_a_process_of_its_own_and_its_metrics_join_the_row(tmp_path):
    two = {"threads": 2}
    row = swept(tmp_path, a_run("lstm", "planted", "throughput", resources=two))["lstm"]
    assert row.status == "ok"
    assert row.metrics["planted_process_id"] not in (os.getpid(), None)
    assert row.metrics["planted_threads"] == 2
    assert row.metrics["train_tokens_per_s"] > 0


def test_an_instrument_alone_makes_a_row(tmp_path):
    row = swept(tmp_path, a_run("lstm", "planted_shared"))["lstm"]
    assert row.status == "ok"
    assert row.metrics["planted_threads"] == 1
    assert row.metrics["state_bytes"] > 0
    assert "train_tokens_per_s" not in row.metrics


def test_instruments_that_time_have_the_machine_to_themselves(tmp_path):
    runs = [a_run(name, "planted") for name in ("lstm", "mingru", "lru")]
    (notes := tmp_path / "notes").mkdir()
    swept(tmp_path / "study", *runs, PLANTED_NOTES=str(notes))
    spans = sorted(tuple(map(float, path.read_text().split())) for path in notes.iterdir())
    assert len(spans) == 3
    assert all(ended <= begun for (_, ended), (begun, _) in pairwise(spans))


def test_an_instrument_that_fails_or_dies_costs_its_own_numbers_alone(tmp_path):
    rows = swept(
        tmp_path,
        a_run("rnn", "planted", "throughput"),
        a_run("gru", "planted", "throughput"),
    )
    assert {row.status for row in rows.values()} == {"ok"}
    assert all(row.metrics["train_tokens_per_s"] > 0 for row in rows.values())
    assert rows["rnn"].metrics["planted_missing"] == "oom: MemoryError: 9 GiB asked"
    assert "SIGKILL" in rows["gru"].metrics["planted_missing"]
    assert "planted_threads" not in rows["rnn"].metrics


def test_a_run_of_which_nothing_was_measured_ends_as_its_instrument_did(tmp_path):
    rows = swept(tmp_path, a_run("rnn", "planted"), a_run("gru", "planted_shared"))
    assert rows["rnn"].status == "oom"
    assert "9 GiB" in rows["rnn"].reason
    assert "MemoryError" in rows["rnn"].log_tail
    assert rows["gru"].status == "failed"
    assert rows["gru"].metrics["parameters"] > 0  # what is known of it all the same


def test_a_throughput_that_fails_leaves_what_the_others_measured():
    run = parse_run(a_run("lstm", "memory", "throughput"))
    found = {"memory": Found(metrics={"peak_bytes": 7}), "throughput": Found("failed", "it died")}
    (row,) = session.measure([run], "study", {}, {run.id: found})
    assert row.status == "ok"
    assert row.metrics["peak_bytes"] == 7
    assert row.metrics["throughput_missing"] == "failed: it died"
    assert "train_tokens_per_s" not in row.metrics


@pytest.mark.parametrize("known", [True, False])
def test_a_session_in_which_a_cell_fails_ends_badly_only_if_nothing_else_is_known(
    monkeypatch, known
):
    def full(*_: object) -> None:
        raise MemoryError("no room")

    monkeypatch.setattr(session, "_cell", full)
    run = parse_run(a_run("lstm", "memory", "throughput"))
    found = {"memory": Found(metrics={"peak_bytes": 7}) if known else Found("oom", "full")}
    (row,) = session.measure([run], "study", {}, {run.id: found})
    if known:
        assert (row.status, row.reason, row.log_tail) == ("ok", "", "")
        assert row.metrics["throughput_missing"] == "oom: MemoryError: no room"
        assert row.metrics["peak_bytes"] == 7
    else:
        assert (row.status, row.reason) == ("oom", "MemoryError: no room")
        assert row.metrics["memory_missing"] == "oom: full"


def test_a_run_that_cannot_be_is_so_whatever_else_is_known():
    run = parse_run(a_run("bilstm_stack", "memory", task="python_bytes"))
    found = {"memory": Found("unsupported", "it reads ahead")}
    (row,) = session.measure([run], "study", {}, {run.id: found})
    assert row.status == "unsupported"


def test_metrics_are_merged_and_what_failed_is_said():
    found = {"one": Found(metrics={"a": 1, "b_missing": "no meter"}), "two": Found("oom", "full")}
    assert merged(found) == {"a": 1, "b_missing": "no meter", "two_missing": "oom: full"}


@pytest.mark.parametrize("name", instruments.INSTRUMENTS)
def test_every_instrument_is_a_file_of_its_name_that_measures(name):
    instrument = instruments.INSTRUMENTS[name]
    assert instrument.module == f"bench.measure.{name}"
    assert callable(importlib.import_module(instrument.module).measure)


def test_an_unknown_instrument_is_named_with_the_nearest_one():
    with pytest.raises(UserError, match=r"'memroy'; did you mean 'memory'\? choices: .*throughput"):
        parse_run(a_run("lstm", "memroy"))
