"""Whatever befalls a tracker costs a line of the run's log, and never the run."""

import gc
import subprocess
import sys
import threading
import time

import pytest

from bench.trackers import choice, follow
from bench.trackers.follow import Followers
from bench.training.execute import execute
from tests.followed import (
    PATIENCE_S,
    PROVENANCE,
    cell,
    followed,
    what_a_run_computes,
)

pytestmark = pytest.mark.usefixtures("watched_closely")


class Recorded:
    """A tracker that does something unexpected when it is told one thing, the first time."""

    def __init__(self, where, act):
        self.where, self.act, self.told = where, act, []

    def __call__(self, row, continued):
        self._hear("begin")
        return self

    def _hear(self, what):
        self.told.append(what)
        if what == self.where:
            self.act()

    def log(self, step, values):
        self._hear("log")

    def end(self, row):
        self._hear("end")

    def leave(self):
        self._hear("leave")


def lost():
    raise ConnectionError("the server\nis gone")


def exits():
    sys.exit(3)


@pytest.mark.parametrize("act", [lost, exits])
@pytest.mark.parametrize("where", ["begin", "log", "end"])
def test_a_tracker_that_raises_costs_a_line_of_the_log(where, act, tmp_path, capfd):
    tracker, other = Recorded(where, act), Recorded("nowhere", act)
    row = followed(cell(), tmp_path, Followers({"broken": tracker, "whole": other}))
    assert what_a_run_computes(row) == what_a_run_computes(execute(cell(), "test", PROVENANCE))
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith("tracker broken: ")
    assert line.endswith("the run goes on without it")
    assert tracker.told[-1] == where
    assert other.told[-1] == "end"


@pytest.mark.parametrize("where", ["begin", "log", "end"])
def test_a_tracker_that_hangs_costs_a_line_of_the_log(where, tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(follow, "END_S", 0.2)
    release = threading.Event()
    tracker = Recorded(where, release.wait)
    row = followed(cell(), tmp_path, Followers({"broken": tracker}))
    assert row.status == "ok"
    (line,) = capfd.readouterr().err.splitlines()
    assert line == "tracker broken: it did not end; the run goes on without it"
    told = list(tracker.told)
    release.set()
    for thread in threading.enumerate():
        if thread.name == "tracker broken":
            thread.join()
    assert tracker.told == told  # it does not wake up to go on


def test_a_tracker_that_hangs_is_given_up_while_the_run_trains(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(follow, "STALL_S", 0.0)
    monkeypatch.setattr(follow, "END_S", 3600.0)  # nobody waits for it
    release = threading.Event()
    row = followed(cell(), tmp_path, Followers({"broken": Recorded("begin", release.wait)}))
    release.set()
    assert row.status == "ok"
    (line,) = capfd.readouterr().err.splitlines()
    assert line == "tracker broken: nothing happened for 0 s; the run goes on without it"


def test_a_tracker_that_is_slow_is_given_up_and_takes_no_more_memory(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(follow, "MAX_WAITING", 4)
    release = threading.Event()
    row = followed(cell(), tmp_path, Followers({"slow": Recorded("begin", release.wait)}))
    release.set()
    assert row.status == "ok"
    (line,) = capfd.readouterr().err.splitlines()
    assert line == "tracker slow: it is 4 points behind; the run goes on without it"


def test_a_tracker_takes_its_time_while_the_run_trains_and_none_at_its_end(
    tmp_path, at_step, monkeypatch
):
    monkeypatch.setattr(follow, "PACE_S", 3600.0)
    tracker = Recorded("nowhere", lost)
    told = []
    at_step(lambda: told.extend(tracker.told), 20)
    row = followed(cell(), tmp_path, Followers({"slow": tracker}))
    assert told in ([], ["begin"])
    n_points = sum(len(points) for points in row.curves.values())
    assert tracker.told == ["begin", *["log"] * n_points, "end"]


def test_a_package_that_is_missing_on_a_node_costs_a_line_of_the_log(tmp_path, monkeypatch, capfd):
    monkeypatch.setitem(sys.modules, "wandb", None)
    assert followed(cell(), tmp_path, choice.followers(("wandb",), tmp_path)).status == "ok"
    (line,) = capfd.readouterr().err.splitlines()
    assert "pip install 'seqbench[wandb]'" in line


def test_a_tracker_whose_own_process_is_killed_costs_a_line_of_the_log(
    both, tmp_path, at_step, capfd
):
    run = cell()

    def kill():
        deadline = time.monotonic() + PATIENCE_S
        while not (tmp_path / "wandb" / "latest-run").exists() or not children():
            assert time.monotonic() < deadline, "it did not begin"
            time.sleep(0.05)
        for process in children():
            process.kill()
            process.wait()

    at_step(kill, 12)
    row = followed(run, tmp_path, choice.followers(("wandb",), tmp_path))
    assert row.status == "ok"
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith("tracker wandb: ")


def children():
    """What the package has started and not ended."""
    started = [one for one in gc.get_objects() if type(one) is subprocess.Popen]
    return [one for one in started if "wandb-core" in str(one.args) and one.poll() is None]


def test_a_disk_that_is_full_costs_a_line_of_the_log(both, tmp_path, capfd):
    (tmp_path / "tensorboard").touch()
    (tmp_path / "wandb").touch()
    row = followed(cell(), tmp_path, choice.followers(both, tmp_path))
    assert row.status == "ok"
    said = capfd.readouterr().err
    assert said.count("the run goes on without it") == 2
