"""Trackers follow a run at work: what they show is its row, and nothing that befalls them costs it.

Weights & Biases offline and tensorboardX are the real packages, read back from their files; a
server is a fake that knows some steps.
"""

import sys

import pytest

from bench.records import checkpoints as places
from bench.records.store import Store
from bench.trackers import choice, shown, weights_and_biases
from bench.trackers.follow import Followers
from bench.trackers.weights_and_biases import Pushed, push
from bench.training.execute import execute
from bench.training.module import DivergedError
from tests.fake_wandb import FakeWandb
from tests.followed import (
    EVERY_STEP_S,
    PROVENANCE,
    a_study,
    cell,
    event_file,
    followed,
    lines_of,
    offline_run,
    points,
    points_of,
    stopped,
    what_a_run_computes,
)
from tests.small_run import Killed, die, leave
from tests.tracker_files import of_kind, scalars, texts

pytestmark = pytest.mark.usefixtures("watched_closely")


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
