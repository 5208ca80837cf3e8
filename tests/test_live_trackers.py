"""Trackers follow a run at work: what they show is its row, and nothing that befalls them costs it.

Weights & Biases offline and tensorboardX are the real packages, read back from their files; a
server is a fake that knows some steps.
"""

import gc
import subprocess
import sys
import threading
import time
from contextlib import suppress

import pytest

from bench.records import checkpoints as places
from bench.records.store import Store
from bench.study import Study
from bench.trackers import choice, follow, shown, tensorboard, weights_and_biases
from bench.trackers.follow import Followers
from bench.trackers.weights_and_biases import Pushed, push
from bench.training import interrupts, module
from bench.training.execute import execute
from bench.training.interrupts import Interrupted
from bench.training.module import DivergedError
from tests.fake_wandb import FakeWandb
from tests.small_run import Killed, a_run, die, leave
from tests.tracker_files import history, of_kind, offline_records, scalars, texts

TIMES = ("train_seconds", "observed_train_tokens_per_s")
PROVENANCE = {"git_commit": "0123", "git_dirty": False, "versions": {"torch": "1"}}
EVERY_STEP_S = 1e-9
PATIENCE_S = 60.0
BOTH = ("wandb", "tensorboard")


@pytest.fixture(autouse=True)
def _a_point_every_third_step(monkeypatch):
    monkeypatch.setattr(module, "CHECK_EVERY", 3)


@pytest.fixture(autouse=True)
def _offline(monkeypatch):
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.delenv(choice.VARIABLE, raising=False)


@pytest.fixture
def both(monkeypatch, tmp_path_factory):
    """The two packages."""
    for name in ("tensorboardX", "wandb"):
        pytest.importorskip(name, reason=f"{name} is not installed")
    import wandb

    home = str(tmp_path_factory.mktemp("home"))
    for variable in ("WANDB_CACHE_DIR", "WANDB_DATA_DIR", "WANDB_CONFIG_DIR"):
        monkeypatch.setenv(variable, home)
    yield BOTH
    with suppress(OSError):  # where its process was killed
        wandb.teardown()


def cell(**changes):
    training = {"steps": 23, "val_every": 5, **changes.pop("training", {})}
    task = {"name": "parity", "n_val": 16, "n_test": 16}
    return a_run(**{"task": task, **changes}, training=training)


def followed(run, folder, followers):
    """Train as a worker does."""
    row = execute(run, "test", PROVENANCE, places.folder_of(folder, run.id), followers)
    Store(folder).write(row)
    followers.end(row)
    return row


def stopped(run, folder, followers):
    with pytest.raises(Interrupted):
        execute(run, "test", PROVENANCE, places.folder_of(folder, run.id), followers)
    followers.leave()
    interrupts.install()


def what_a_run_computes(row):
    kept = row.model_dump(exclude={"provenance"})
    kept["metrics"] = {k: v for k, v in row.metrics.items() if k not in TIMES}
    return kept


def offline_run(folder, run_id):
    """The records of the one offline run of an id."""
    (path,) = folder.glob(f"wandb/offline-run-*-{run_id}*/run-{run_id}.wandb")
    return list(offline_records(path))


def lines_of(records):
    """The history by step, without what the package adds."""
    return [
        (line["_step"], {key: value for key, value in line.items() if not key.startswith("_")})
        for line in history(records)
    ]


def event_file(folder, row):
    (path,) = (folder / "tensorboard" / tensorboard.folder_name(row)).iterdir()
    return path


def points_of(path):
    """Every point of an event file but the final numbers."""
    return [point for point in scalars(path) if not point[0].startswith("final/")]


def points(row):
    return [
        (curve, step, pytest.approx(value))  # float32 there
        for step, values in shown.steps(row.curves)
        for curve, value in values.items()
    ]


def test_trackers_show_the_curves_and_the_end_of_the_row(both, tmp_path):
    row = followed(cell(test_lengths=[6, 30]), tmp_path, choice.followers(both, tmp_path))
    assert row.status == "ok", row.reason
    assert len(row.curves["train_loss"]) > 5
    records = offline_run(tmp_path, row.id)
    assert lines_of(records) == shown.steps(row.curves)
    assert [one.exit_code for one in of_kind(records, "exit")] == [0]
    runs = of_kind(records, "run")
    assert {(one.run_id, one.project, one.run_group) for one in runs} == {(row.id, "test", "test")}
    assert list(runs[-1].tags) == ["ok"]
    path = event_file(tmp_path, row)
    assert sorted(points_of(path)) == sorted(points(row))
    found = {tag: value for tag, _, value in scalars(path)}
    assert found["final/test_score"] == pytest.approx(row.metrics["test_score"])
    assert texts(path)["final/status"] == ["    ok"]
    assert row.id in texts(path)["configuration"][0]


def test_trackers_change_no_bit_of_a_row(both, tmp_path):
    run = cell(architecture={"name": "lstm_stack", "dropout": 0.3})
    alone = execute(run, "test", PROVENANCE)
    row = followed(run, tmp_path, choice.followers(both, tmp_path))
    assert what_a_run_computes(row) == what_a_run_computes(alone)


def test_without_a_tracker_no_package_of_one_is_imported(monkeypatch):
    for name in ("wandb", "tensorboardX"):
        monkeypatch.setitem(sys.modules, name, None)
    assert execute(cell(), "test", PROVENANCE).status == "ok"


@pytest.mark.parametrize("step", [2, 13, 22])
def test_a_run_that_goes_on_is_shown_once(both, tmp_path, at_step, step):
    run = cell()
    at_step(leave, step)
    stopped(run, tmp_path, choice.followers(both, tmp_path))
    assert offline_run(tmp_path, run.id)
    row = followed(run, tmp_path, choice.followers(both, tmp_path))
    assert row.provenance["continued"] == 1
    assert lines_of(offline_run(tmp_path, run.id)) == shown.steps(row.curves)
    assert sorted(points_of(event_file(tmp_path, row))) == sorted(points(row))


def test_what_was_logged_after_the_last_checkpoint_is_not_shown_twice(both, tmp_path, at_step):
    run = cell(resources={"checkpoint_s": EVERY_STEP_S})
    at_step(die, 20)
    followers = choice.followers(both, tmp_path)
    folder = places.folder_of(tmp_path, run.id)
    with pytest.raises(Killed):
        execute(run, "test", PROVENANCE, folder, followers)
    followers.leave()
    places.found(folder)[0].unlink()  # of step 20, after which val was logged
    logged = lines_of(offline_run(tmp_path, run.id))
    row = followed(run, tmp_path, choice.followers(both, tmp_path))
    assert row.provenance["continued"] == 1
    assert logged == shown.steps(row.curves)[: len(logged)]
    assert lines_of(offline_run(tmp_path, run.id)) == shown.steps(row.curves)
    assert sorted(points_of(event_file(tmp_path, row))) == sorted(points(row))


def test_a_run_that_is_stopped_while_it_is_tested_is_shown_whole(both, tmp_path, at_step):
    """No step of training is left, after which anything could be logged."""
    run = cell(resources={"checkpoint_s": EVERY_STEP_S})
    at_step(leave, 0, "test_step")
    stopped(run, tmp_path, choice.followers(both, tmp_path))
    row = followed(run, tmp_path, choice.followers(both, tmp_path))
    assert lines_of(offline_run(tmp_path, run.id)) == shown.steps(row.curves)


def test_the_server_is_not_told_again_what_it_has(tmp_path, at_step, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "online")
    run, wandb = cell(), FakeWandb(starting_step=10)

    def begin(row, continued):
        return weights_and_biases.LiveRun(wandb, tmp_path, row, continued)

    at_step(leave, 13)
    stopped(run, tmp_path, Followers({"wandb": begin}))
    row = followed(run, tmp_path, Followers({"wandb": begin}))
    first, second = wandb.runs
    assert first.given["resume"] is None  # it begins anew, whatever is there of an earlier try
    assert (first.preempting, first.exit_code) == (True, 1)
    assert second.given["resume"] == "allow"
    assert {run.given["id"] for run in wandb.runs} == {row.id}
    steps = sorted({step for step, _ in second.logged})
    assert steps == [step for step, _ in shown.steps(row.curves) if step >= 10]


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (DivergedError("the loss was nan"), "diverged"),
        (MemoryError(), "oom"),
        (RuntimeError("no"), "failed"),
    ],
)
def test_a_run_that_ends_badly_is_shown_so(tmp_path, at_step, error, status):
    """Up to where it came, with its status."""
    wandb = FakeWandb()

    def fail():
        raise error

    at_step(fail, 12)

    def begin(row, continued):
        return weights_and_biases.LiveRun(wandb, tmp_path, row, continued)

    row = followed(cell(), tmp_path, Followers({"wandb": begin}))
    (run,) = wandb.runs
    assert (row.status, run.summary["status"], run.tags, run.exit_code) == (
        status,
        status,
        (status,),
        1,
    )
    assert run.summary["log_tail"] == row.log_tail
    assert sorted({step for step, _ in run.logged}) == [3, 5, 6, 9, 10, 12]


def test_a_run_that_cannot_begin_is_shown_with_its_reason(both, tmp_path):
    run = cell(architecture="bilstm_stack", task="dyck")
    row = followed(run, tmp_path, choice.followers(both, tmp_path))
    assert row.status == "unsupported"
    (end,) = of_kind(offline_run(tmp_path, row.id), "exit")
    assert end.exit_code == 1
    assert texts(event_file(tmp_path, row))["final/status"] == [f"    {row.status}"]


def test_a_row_that_was_followed_has_nothing_left_to_push(both, tmp_path):
    followed(cell(), tmp_path, choice.followers(both, tmp_path))
    study = a_study(tmp_path)
    assert push(FakeWandb(), study, Store(tmp_path)) == Pushed(sent=0, unchanged=1)
    assert push(FakeWandb(), study, Store(tmp_path), project="other").sent == 1


def test_a_row_that_changed_since_it_was_followed_is_pushed(tmp_path):
    wandb = FakeWandb()

    def begin(row, continued):
        return weights_and_biases.LiveRun(wandb, tmp_path, row, continued)

    row, store = followed(cell(), tmp_path, Followers({"wandb": begin})), Store(tmp_path)
    study = a_study(tmp_path)
    store.write(row.model_copy(update={"status": "timeout"}))
    assert push(wandb, study, store).sent == 1
    store.write(row)  # what was noted first does not hold any more
    assert push(wandb, study, store).sent == 1
    assert push(wandb, study, store).sent == 0
    again = followed(cell(), tmp_path, Followers({"wandb": begin}))
    assert again != row
    assert push(wandb, study, store).sent == 0


def test_a_push_takes_the_place_of_an_offline_run_that_was_not_synced(both, tmp_path):
    import wandb

    row = followed(cell(), tmp_path, choice.followers(("wandb",), tmp_path))
    push(wandb, a_study(tmp_path), Store(tmp_path), again=True)
    assert lines_of(offline_run(tmp_path, row.id)) == shown.steps(row.curves)
    (path,) = tmp_path.glob("wandb/offline-run-*")
    (path / f"run-{row.id}.wandb.synced").touch()
    push(wandb, a_study(tmp_path), Store(tmp_path), again=True)
    assert path.exists()


def a_study(folder):
    return Study(name="test", folder=folder, title="t", question="", runs=(cell(),))


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
