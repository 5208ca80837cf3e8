"""Which trackers follow a run is asked for where it is launched, and is no part of the run."""

import os
import sys

import pytest
from typer.testing import CliRunner

from bench import cli
from bench.commands.submit import sweep_on_slurm
from bench.errors import UserError
from bench.launch import sweep
from bench.launch.pool import Pool, Worker
from bench.launch.slurm import element, submission
from bench.records.row import Row
from bench.records.store import Store
from bench.study import load
from bench.trackers import choice
from tests.fake_slurm import FakeSlurm
from tests.small_run import a_run
from tests.tracker_files import history, offline_records, scalars

STUDY = """
title: t
base: {width: 16, training: {steps: 30, batch_size: 8}}
grid:
  architecture: [gru]
  task: [{name: parity, n_val: 16, n_test: 16}]
  length: [12]
  seed: [0, 1]
"""


@pytest.fixture(autouse=True)
def _unset(monkeypatch):
    monkeypatch.delenv(choice.VARIABLE, raising=False)
    monkeypatch.delenv("WANDB_MODE", raising=False)


@pytest.fixture
def study(tmp_path):
    folder = tmp_path / "study"
    folder.mkdir()
    (folder / "study.yaml").write_text(STUDY)
    return folder


class Silent:
    """A watcher that remembers how runs ended."""

    def __init__(self):
        self.ended = {}

    def started(self, run): ...

    def waiting(self, reason): ...

    def tick(self): ...

    def finished(self, run, status, reason):
        self.ended[run.id] = status


def test_what_is_asked_for_goes_before_the_variable(monkeypatch):
    assert choice.chosen([]) == ()
    monkeypatch.setenv(choice.VARIABLE, " tensorboard, wandb,,tensorboard ")
    assert choice.chosen([]) == ("tensorboard", "wandb")
    assert choice.chosen(["wandb", "wandb"]) == ("wandb",)


def test_an_unknown_tracker_is_one_line_with_the_nearest(monkeypatch):
    expected = "no tracker 'wanbd'; did you mean 'wandb'? choices: tensorboard, wandb"
    with pytest.raises(UserError) as raised:
        choice.chosen(["wanbd"])
    assert str(raised.value) == expected
    monkeypatch.setenv(choice.VARIABLE, "tensorboard,wanbd")
    with pytest.raises(UserError) as raised:
        choice.chosen([])
    assert str(raised.value) == f"SEQBENCH_TRACKERS: {expected}"


@pytest.mark.parametrize(("name", "package"), [("wandb", "wandb"), ("tensorboard", "tensorboardX")])
@pytest.mark.parametrize("by_variable", [True, False])
@pytest.mark.parametrize("command", ["sweep", "retry", "run"])
def test_a_package_that_is_missing_is_said_before_anything_is_started(
    study, monkeypatch, command, name, package, by_variable
):
    monkeypatch.setitem(sys.modules, package, None)
    words = {
        "sweep": ["sweep", str(study)],
        "retry": ["retry", str(study)],
        "run": ["run", "-a", "gru", "-t", "parity", "-l", "8", "--into", str(study)],
    }[command]
    if by_variable:
        monkeypatch.setenv(choice.VARIABLE, name)
    else:
        words += ["--tracker", name]
    done = CliRunner().invoke(cli.app, words)
    assert isinstance(done.exception, UserError)
    assert f"pip install 'seqbench[{name}]'" in str(done.exception)
    assert "\n" not in str(done.exception)
    assert [path.name for path in study.iterdir()] == ["study.yaml"]


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    fake = FakeSlurm(tmp_path / "slurm")
    # Before the true ones, not in their place: a server of workers that is started here keeps its
    # environment for the tests that come after.
    monkeypatch.setenv("PATH", str(fake.bin), prepend=os.pathsep)
    for name in ("sbatch", "squeue", "scontrol"):
        fake.add(name)
    return fake


def plan_of(study, tmp_path, trackers):
    profile = tmp_path / "profile.yaml"
    profile.write_text("shared_folders: true\n")
    sweep_on_slurm(study, str(profile), dry_run=False, trackers=trackers)
    (folder,) = submission.submissions(study)
    return folder / "plan-0.jsonl"


@pytest.mark.parametrize("trackers", [(), ("wandb", "tensorboard")])
def test_trackers_reach_the_nodes_with_the_plan(study, tmp_path, slurm, monkeypatch, trackers):
    plan = plan_of(study, tmp_path, trackers)
    given = []

    def do(pool, runs, progress):
        given.append(pool._job(runs[:1], None).trackers)

    monkeypatch.setattr(element, "_do", do)
    element.work(plan, 0)
    assert given == [trackers]


def test_a_plan_of_before_there_were_trackers_can_be_done(study, tmp_path, slurm):
    plan = plan_of(study, tmp_path, ())
    plan.write_text(plan.read_text().replace(',"trackers":[]', ""))
    header, _ = submission.read_plan(plan, 0)
    assert header.trackers == ()


@pytest.mark.parametrize(
    ("profile", "refused"), [("", True), ("python: /opt/python\n", False)], ids=["same", "own"]
)
def test_a_package_is_looked_for_where_the_nodes_have_it(
    study, tmp_path, slurm, monkeypatch, profile, refused
):
    monkeypatch.setitem(sys.modules, "wandb", None)
    file = tmp_path / "profile.yaml"
    file.write_text(f"shared_folders: true\n{profile}")
    words = ["sweep", str(study), "--slurm", str(file), "--tracker", "wandb"]
    done = CliRunner().invoke(cli.app, words)
    assert isinstance(done.exception, UserError) == refused
    assert bool(submission.submissions(study)) != refused


class Lingering:
    """A process that does not end, as one whose tracker hangs."""

    exitcode = pid = None

    def __init__(self, sentinel):
        self.sentinel = sentinel

    def join(self, timeout=None): ...

    def kill(self): ...


@pytest.mark.parametrize("status", ["ok", "timeout"])
def test_a_row_that_is_there_is_not_lost_to_a_tracker_that_takes_too_long(tmp_path, status):
    run, store, watcher = a_run(), Store(tmp_path), Silent()
    if status == "ok":
        store.write(Row(id=run.id, study="s", status="ok", run=run.model_dump(mode="json")))
    pool = Pool(store, "test", {}, watcher)
    read, write = os.pipe()
    pool.alive.append(Worker(run, [Lingering(read)], [], begun=-run.resources.timeout_s))
    pool._poll(pool.leave_row)
    for end in (read, write):
        os.close(end)
    assert watcher.ended == {run.id: status}
    assert store.statuses() == {run.id: status}


@pytest.mark.slow
def test_a_sweep_that_is_followed_leaves_the_rows_of_one_that_is_not(study, tmp_path):
    """On one device and on two, of which one alone tells the trackers."""
    for package in ("tensorboardX", "wandb"):
        pytest.importorskip(package, reason=f"{package} is not installed")
    (study / "study.yaml").write_text(f"{STUDY}  resources.devices: [1, 2]\n")
    loaded = load(study)
    rows = {}
    for trackers in ((), ("wandb", "tensorboard")):
        store = Store(tmp_path / "-".join(("rows", *trackers)))
        sweep.sweep("test", store, sweep.plan(loaded, store), 2, Silent(), trackers)
        rows[trackers] = {row.id: row for row in store.rows()}
    alone, followed = rows.values()
    assert {row.status for row in alone.values()} == {"ok"}, alone
    assert alone.keys() == followed.keys()
    for row_id, row in followed.items():
        assert row.curves == alone[row_id].curves
        assert row.metrics["test_score"] == alone[row_id].metrics["test_score"]
        (events,) = (tmp_path / "rows-wandb-tensorboard").glob(f"tensorboard/*.{row_id}/*")
        losses = [(step, value) for tag, step, value in scalars(events) if tag == "train_loss"]
        assert losses == [(step, pytest.approx(loss)) for step, loss in row.curves["train_loss"]]
        (run,) = (tmp_path / "rows-wandb-tensorboard").glob(f"wandb/offline-*/run-{row_id}.wandb")
        lines = history(offline_records(run))
        assert [line["train_loss"] for line in lines if "train_loss" in line] == [
            loss for _, loss in row.curves["train_loss"]
        ]
    logs = (tmp_path / "rows-wandb-tensorboard" / "work").glob("*.log")
    assert not [log for log in logs if "goes on without" in log.read_text()]
