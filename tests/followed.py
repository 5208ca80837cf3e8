"""Runs that trackers follow, and what the trackers kept of them."""

import pytest

from bench.records import checkpoints as places
from bench.records.store import Store
from bench.study import Study
from bench.trackers import shown, tensorboard
from bench.training import interrupts
from bench.training.execute import execute
from bench.training.interrupts import Interrupted
from tests.small_run import a_run
from tests.tracker_files import history, offline_records, scalars

TIMES = ("train_seconds", "observed_train_tokens_per_s")
PROVENANCE = {"git_commit": "0123", "git_dirty": False, "versions": {"torch": "1"}}
EVERY_STEP_S = 1e-9
PATIENCE_S = 60.0
BOTH = ("wandb", "tensorboard")


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


def a_study(folder):
    return Study(name="test", folder=folder, title="t", question="", runs=(cell(),))
