"""A run that stops anywhere and goes on leaves the row of one that never stopped, bit for bit."""

import errno
import itertools
import os
import signal
import zipfile
from pathlib import Path

import pytest
import torch

from bench.records import checkpoints as places
from bench.records import files
from bench.spec import Run
from bench.training import interrupts
from bench.training.execute import execute
from bench.training.interrupts import Interrupted
from bench.training.module import TrainingModule, seed_draws
from tests.small_run import Killed, a_run, die, leave

TIMES = ("train_seconds", "observed_train_tokens_per_s")
EVERY_STEP_S = 1e-9
VAL_BATCHES = 6
PROVENANCE = {"git_commit": "0123", "git_dirty": False, "versions": {"torch": "1"}}

CASES = {
    "gru": {},
    "dropout of the residual backbone": {"architecture": {"name": "s4d", "dropout": 0.3}},
    "dropout between layers": {"architecture": {"name": "lstm_stack", "dropout": 0.3}},
    "attention": {"architecture": {"name": "transformer", "dropout": 0.1}},
    "mamba": {"architecture": "mamba"},
    "momentum": {"training": {"optimiser": "sgd", "clip_norm": 0.05, "schedule": "constant"}},
    "warm-up, no clipping": {"training": {"warmup_steps": 9, "clip_norm": None}},
    "windows": {"training": {"tbptt_window": 5, "clip_norm": 0.1}},
    "bfloat16": {"training": {"precision": "bf16-mixed"}},
    "looks that do not divide the steps": {"training": {"val_every": 4}},
    "a look at every step": {"training": {"val_every": 1}},
    "patience": {"training": {"val_every": 2, "patience": 4, "steps": 200}},
    "other lengths": {"test_lengths": [6, 30]},
    "a finite set, three times": {
        "task": "digits",
        "length": 16,
        "training": {"batch_size": 300, "steps": 12},
    },
    "a body that writes": {"task": {"name": "reverse_string", "n_val": 8, "n_test": 8}},
    "a state carried on": {
        "task": {"name": "python_bytes", "n_eval_bytes": 2048},
        "length": 32,
    },
}


def cell(**changes) -> Run:
    training = {"steps": 23, "val_every": 5, **changes.pop("training", {})}
    task = {"name": "parity", "n_val": VAL_BATCHES * 8, "n_test": 40}
    return a_run(**{"task": task, **changes}, training=training)


def result(run: Run, folder: Path | None = None):
    """What a row says, times apart; and how often it was taken up."""
    row = execute(run, "test", PROVENANCE, folder)
    kept = row.model_dump(exclude={"provenance", "run"})
    kept["metrics"] = {k: v for k, v in row.metrics.items() if k not in TIMES}
    return kept, row.provenance["continued"]


def stopped(run: Run, folder: Path) -> None:
    with pytest.raises(Interrupted):
        execute(run, "test", PROVENANCE, folder)
    interrupts.install()


@pytest.mark.parametrize("name", CASES)
def test_a_run_that_was_stopped_twice_leaves_the_same_row(name, tmp_path, at_step):
    run = cell(**CASES[name])
    undisturbed, _ = result(run)
    assert undisturbed["status"] == "ok", undisturbed["reason"]
    for step in (3, 7):
        at_step(leave, step)
        stopped(run, tmp_path)
    assert result(run, tmp_path) == (undisturbed, 2)


@pytest.mark.parametrize("step", [0, 1, 4, 5, 19, 20, 21, 22])
def test_it_may_be_stopped_at_any_step(step, tmp_path, at_step):
    run = cell(architecture={"name": "lstm_stack", "dropout": 0.3})
    undisturbed, _ = result(run)
    counts = at_step(leave, step)
    stopped(run, tmp_path)
    assert counts["training_step"] == step + 1  # the step is finished, and no other begun
    counts.clear()
    assert result(run, tmp_path) == (undisturbed, 1)
    assert counts["training_step"] == run.training.steps - step - 1


def test_a_signal_before_the_first_step_costs_nothing(tmp_path):
    run = cell()
    undisturbed, _ = result(run)
    handlers = [signal.getsignal(number) for number in interrupts.SIGNALS]
    interrupts.install()
    try:
        signal.raise_signal(signal.SIGTERM)
        stopped(run, tmp_path)
    finally:
        interrupts._received = None
        for number, handler in zip(interrupts.SIGNALS, handlers, strict=True):
            signal.signal(number, handler)
    assert places.found(tmp_path) == []
    assert result(run, tmp_path) == (undisturbed, 0)


@pytest.mark.parametrize("lost", [0, 1], ids=["newest", "the one before"])
def test_a_run_that_was_killed_goes_on_from_its_last_checkpoint(lost, tmp_path, at_step):
    run = cell(resources={"checkpoint_s": EVERY_STEP_S})
    undisturbed, _ = result(run)
    at_step(die, 12)
    with pytest.raises(Killed):
        execute(run, "test", PROVENANCE, tmp_path)
    assert [path.name for path in places.found(tmp_path)] == ["step-12.ckpt", "step-11.ckpt"]
    for path in places.found(tmp_path)[:lost]:
        path.unlink()
    assert result(run, tmp_path) == (undisturbed, 1)


def test_a_stop_while_val_is_read_leaves_after_it(tmp_path, at_step):
    run = cell()
    undisturbed, _ = result(run)
    counts = at_step(leave, 3, "validation_step")  # of the look after step 5
    stopped(run, tmp_path)
    assert counts["training_step"] == 5
    assert [path.name for path in places.found(tmp_path)] == ["step-5.ckpt"]
    counts.clear()
    assert result(run, tmp_path) == (undisturbed, 1)
    counts["validation_step"] -= counts["test_step"]  # which calls it
    assert counts["validation_step"] == 4 * VAL_BATCHES  # the look after step 5 is not repeated


def test_a_stop_while_test_is_read_does_not_cost_the_training(tmp_path, at_step):
    run = cell(resources={"checkpoint_s": EVERY_STEP_S})
    undisturbed, _ = result(run)
    counts = at_step(leave, 3, "test_step")
    stopped(run, tmp_path)
    assert counts["test_step"] == 4  # at once
    counts.clear()
    assert result(run, tmp_path) == (undisturbed, 1)
    assert counts["training_step"] == 0


def test_a_run_that_ended_early_is_not_trained_on(tmp_path, at_step):
    run = cell(**CASES["patience"], resources={"checkpoint_s": EVERY_STEP_S})
    undisturbed, _ = result(run)
    assert undisturbed["metrics"]["steps_done"] < run.training.steps
    counts = at_step(leave, 0, "test_step")
    stopped(run, tmp_path)
    counts.clear()
    assert result(run, tmp_path) == (undisturbed, 1)
    assert counts["training_step"] == 0


def test_the_best_weights_are_those_from_before_the_stop(tmp_path, at_step, monkeypatch):
    """A val score that gets worse after the first look."""
    original = TrainingModule._close

    def worsening(self, split):
        original(self, split)
        if split == "val":
            self.scores["val_accuracy"] = 1.0 / (1 + self.trainer.global_step)

    monkeypatch.setattr(TrainingModule, "_close", worsening)
    run = cell()
    undisturbed, _ = result(run)
    assert undisturbed["metrics"]["best_step"] == 5
    at_step(leave, 12)
    stopped(run, tmp_path)
    assert result(run, tmp_path) == (undisturbed, 1)


def test_seconds_add_up(tmp_path, at_step):
    run = cell()
    at_step(leave, 11)
    stopped(run, tmp_path)
    (path,) = places.found(tmp_path)
    before = torch.load(path, weights_only=True)["callbacks"]["StepBoundary"]["seconds"]
    assert before > 0
    row = execute(run, "test", PROVENANCE, tmp_path)
    assert row.metrics["train_seconds"] > before


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path: Path) -> None:
    """One bit of a tensor, which torch reads without a word."""
    with zipfile.ZipFile(path) as archive:
        tensors = [member for member in archive.infolist() if "/data/" in member.filename]
        largest = max(tensors, key=lambda member: member.file_size)
        content = archive.read(largest)
    whole = bytearray(path.read_bytes())
    whole[whole.index(content) + 5] ^= 1
    path.write_bytes(whole)
    torch.load(path, weights_only=True)


def empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("spoil", [truncate, flip, empty])
@pytest.mark.parametrize("n_broken", [1, 2])
def test_a_broken_checkpoint_is_passed_over(spoil, n_broken, tmp_path, at_step, capfd):
    run = cell(resources={"checkpoint_s": EVERY_STEP_S})
    undisturbed, _ = result(run)
    at_step(leave, 9)
    stopped(run, tmp_path)
    for path in places.found(tmp_path)[:n_broken]:
        spoil(path)
    assert result(run, tmp_path) == (undisturbed, 2 - n_broken)
    assert capfd.readouterr().err.count("is passed over") == n_broken


@pytest.mark.parametrize("change", [{"git_commit": "4567"}, {"versions": {"torch": "2"}}])
def test_the_checkpoint_of_other_code_is_passed_over(change, tmp_path, at_step, monkeypatch):
    run = cell()
    at_step(leave, 9)
    stopped(run, tmp_path)
    monkeypatch.setitem(globals(), "PROVENANCE", PROVENANCE | change)
    assert result(run, tmp_path)[1] == 0


def test_the_checkpoint_of_another_model_is_passed_over(tmp_path, at_step):
    at_step(leave, 9)
    stopped(cell(width=8), tmp_path)
    assert result(cell(), tmp_path) == result(cell())


def test_a_full_disk_costs_the_checkpoint_and_not_the_run(tmp_path, at_step, monkeypatch, capfd):
    run = cell(resources={"checkpoint_s": EVERY_STEP_S})
    undisturbed, _ = result(run)

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(files.os, "fsync", full)
    assert result(run, tmp_path) == (undisturbed, 0)
    said = capfd.readouterr().err
    assert "No space left on device; training goes on without it" in said
    assert list(tmp_path.iterdir()) == []


def test_no_more_than_two_are_kept(tmp_path, at_step):
    run = cell(resources={"checkpoint_s": EVERY_STEP_S})
    assert result(run, tmp_path)[0]["status"] == "ok"
    assert [path.name for path in places.found(tmp_path)] == ["step-23.ckpt", "step-22.ckpt"]


def test_a_short_run_makes_none(tmp_path):
    assert result(cell(), tmp_path)[0]["status"] == "ok"
    assert places.found(tmp_path) == []


def test_steps_are_numbers_and_not_words(tmp_path):
    for step in (9, 10, 100):
        places.file_of(tmp_path, step).touch()
    (tmp_path / "step-last.ckpt").touch()
    (tmp_path / ".partial-abc").touch()
    assert [path.name for path in places.found(tmp_path)] == [
        f"step-{step}.ckpt" for step in (100, 10, 9)
    ]
    places.drop_older(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "step-10.ckpt",
        "step-100.ckpt",
        "step-last.ckpt",
    ]


def test_dropout_differs_from_step_to_step_and_from_rank_to_rank():
    """Seeds of steps that were equal would drop the same units always, on every rank."""
    drawn = set()
    for seed, step, rank in itertools.product((0, 1), repeat=3):
        seed_draws(seed, step, rank, torch.device("cpu"))
        drawn.add(torch.rand(()).item())
    assert len(drawn) == 8
