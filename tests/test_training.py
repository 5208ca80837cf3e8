"""Whole runs: the protocol that every architecture gets, and what it leaves in a row."""

import math
import warnings
from typing import get_args

import lightning
import pytest
import torch

from architectures.body import UnsupportedError
from bench.spec import Precision
from bench.training.data import TaskDataModule
from bench.training.execute import (
    diagnose,
    measured_state_bytes,
    prepare,
)
from bench.training.fit import fit
from bench.training.model import SequenceModel
from bench.training.module import DivergedError
from bench.training.optimiser import factor, make_optimiser
from tests.small_run import a_run, row_of


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"architecture": "bilstm_stack", "task": "python_bytes"}, "reads ahead"),
        ({"architecture": "bilstm_stack", "training": {"tbptt_window": 4}}, "whole sequence"),
        ({"architecture": {"name": "hf", "model_type": "xlnet"}}, "xlnet has no cache"),
        ({"task": "digits", "length": 16, "training": {"tbptt_window": 4}}, "mean of all outputs"),
    ],
)
def test_an_unsupported_pair_is_a_row_with_a_reason(change, reason):
    row = row_of(a_run(**change))
    assert row.status == "unsupported"
    assert reason in row.reason


def test_equal_seeds_give_equal_rows_and_others_do_not():
    first, second, other = row_of(a_run()), row_of(a_run()), row_of(a_run(seed=1))
    keep = lambda row: {k: v for k, v in row.metrics.items() if "_s" not in k[-9:]}  # noqa: E731
    assert keep(first) == keep(second)
    assert first.curves == second.curves
    assert first.curves["train_loss"] != other.curves["train_loss"]


def test_the_test_split_is_read_once_and_selects_nothing(monkeypatch):
    run = a_run(training={"steps": 6, "val_every": 2})
    task_class = type(prepare(run).task)
    reads: list[str] = []
    original = task_class.examples

    def watched(self, split, seed, indices):
        reads.append(split)
        return original(self, split, seed, indices)

    monkeypatch.setattr(task_class, "examples", watched)
    assert row_of(run).status == "ok"
    first_test = reads.index("test")
    assert set(reads[first_test:]) == {"test"}  # at the end, and nothing after it
    assert reads.count("test") == math.ceil(1024 / 8)


def test_the_weights_that_are_tested_are_the_best_on_val(monkeypatch):
    """A val score that gets worse after the first look: the first weights have to be tested."""
    run = a_run(training={"steps": 6, "val_every": 2})
    prepared = prepare(run)
    kept: dict[int, torch.Tensor] = {}
    from bench.training.module import TrainingModule

    def worsening(self: TrainingModule, split: str) -> None:
        self.scores[f"{split}_accuracy"] = 1.0 / (1 + self.trainer.global_step)
        if split == "val":
            kept[self.trainer.global_step] = self.model.head.weight.detach().clone()

    monkeypatch.setattr(TrainingModule, "_close", worsening)
    trained = fit(run, prepared.task, prepared.model)
    assert trained.metrics["best_step"] == 2
    assert torch.equal(prepared.model.head.weight, kept[2])
    assert not torch.equal(kept[2], kept[6])


def test_a_run_stops_early_when_val_no_longer_gets_better(monkeypatch):
    from bench.training.module import TrainingModule

    def constant(self: TrainingModule, split: str) -> None:
        self.scores[f"{split}_accuracy"] = 0.5

    monkeypatch.setattr(TrainingModule, "_close", constant)
    run = a_run(training={"steps": 40, "val_every": 2, "patience": 3})
    prepared = prepare(run)
    trained = fit(run, prepared.task, prepared.model)
    assert trained.metrics["steps_done"] == 8  # the first look and three more


def test_the_last_step_is_looked_at_even_if_the_looks_do_not_divide_the_steps():
    row = row_of(a_run(training={"steps": 7, "val_every": 3}))
    assert [step for step, _ in row.curves["val_accuracy"]] == [3, 6, 7]


def test_a_diverging_run_is_a_row_that_says_so():
    run = a_run(
        architecture={"name": "rnn_stack", "nonlinearity": "relu"},
        task="adding",
        training={"optimiser": "sgd", "learning_rate": 1e30, "clip_norm": None, "steps": 30},
    )
    row = row_of(run)
    assert row.status == "diverged"
    assert "loss was" in row.reason
    assert "test_score" not in row.metrics


def test_a_run_that_raises_leaves_a_row_with_the_end_of_its_log(monkeypatch):
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("a layer that divides by zero")

    monkeypatch.setattr(SequenceModel, "forward", broken)
    row = row_of(a_run())
    assert (row.status, row.reason) == (
        "failed",
        "ZeroDivisionError: a layer that divides by zero",
    )
    assert row.log_tail.endswith("a layer that divides by zero")


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (MemoryError(), "oom"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), "oom"),
        (RuntimeError("[enforce] DefaultCPUAllocator: can't allocate memory: you tried"), "oom"),
        (RuntimeError("could not create a primitive"), "oom"),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), "failed"),
        (DivergedError("loss was nan"), "diverged"),
        (UnsupportedError("no"), "unsupported"),
    ],
)
def test_exceptions_are_told_apart(error, status):
    assert diagnose(error)[0] == status


@pytest.mark.parametrize("precision", [p for p in get_args(Precision) if p != "16-mixed"])
@pytest.mark.parametrize("task", ["parity", "adding"])
def test_every_precision_trains(precision, task):
    row = row_of(a_run(task=task, training={"precision": precision}))
    assert row.status == "ok", row.log_tail


def test_the_kernel_of_a_row_is_that_of_its_precision(monkeypatch):
    """Not that of float32: oneDNN has a bfloat16 LSTM on some processors only."""
    takes = lambda dtype: dtype == torch.float32  # noqa: E731
    monkeypatch.setattr("architectures.layers.recurrent.onednn_takes", takes)
    kernels = {
        precision: row_of(
            a_run(architecture="lstm_stack", training={"precision": precision})
        ).kernel
        for precision in ("32-true", "bf16-mixed")
    }
    assert kernels == {"32-true": "onednn", "bf16-mixed": "aten"}


@pytest.mark.skipif(torch.cuda.is_available(), reason="a CUDA device can do it")
def test_a_precision_that_the_device_has_not_is_refused_and_not_replaced():
    """Lightning trains in bf16 where a CPU is asked for fp16; the row would have said fp16."""
    assert row_of(a_run(training={"precision": "16-mixed"})).status == "unsupported"


def test_the_loop_does_what_a_plain_loop_does():
    """Same seed, same batches, same optimiser: the weights end equal, bit for bit."""
    run = a_run(training={"steps": 5, "val_every": 5, "clip_norm": 0.05})
    prepared, plain = prepare(run), prepare(run)
    fit(run, prepared.task, prepared.model)
    optimiser = make_optimiser(plain.model, run.training)
    rate = factor(run.training)
    data = TaskDataModule(run, plain.task)
    for step, batch in enumerate(data.train_dataloader()):
        for group in optimiser.param_groups:
            group["lr"] = run.training.learning_rate * rate(step)
        outputs, _ = plain.model(batch.inputs)
        loss, count = plain.task.loss(outputs, batch.targets)
        optimiser.zero_grad()
        (loss / count).backward()
        # In the optimiser's order, as the trainer: a sum in another order rounds otherwise.
        ordered = [p for group in optimiser.param_groups for p in group["params"]]
        torch.nn.utils.clip_grad_norm_(ordered, 0.05)
        optimiser.step()
    for expected, found in zip(plain.model.parameters(), prepared.model.parameters(), strict=True):
        assert torch.equal(expected, found)


def test_state_bytes_are_flat_for_a_recurrent_body_and_grow_for_attention():
    sizes = {
        (name, length): measured_state_bytes(prepare(a_run(architecture=name, length=length)))
        for name in ("gru", "s4d", "mamba", "transformer")
        for length in (16, 64)
    }
    for name in ("gru", "s4d", "mamba"):
        assert sizes[name, 16] == sizes[name, 64] > 0
    assert sizes["transformer", 64] > 3 * sizes["transformer", 16]


def test_lightning_is_not_one_of_the_withdrawn_releases():
    assert lightning.__version__ not in ("2.6.2", "2.6.3")


def test_pooling_reads_the_real_tokens_only():
    run = a_run(task="digits", length=16)
    model = prepare(run).model
    y = torch.randn(2, 5, 16)
    lengths = torch.tensor([3, 5])
    mean = model.pooled(y, lengths)
    assert torch.allclose(mean[0], y[0, :3].mean(0), atol=1e-6)
    model.pool = "last"
    assert torch.equal(model.pooled(y, lengths)[0], y[0, 2])


def test_a_run_warns_of_nothing():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert row_of(a_run()).status == "ok"


def test_a_row_says_the_score_of_a_trivial_rule():
    """Of 12 bits the first is its own parity, and half of the others are by chance."""
    scored = row_of(a_run()).scored
    assert scored.baseline == pytest.approx((1 + 11 / 2) / 12)
    assert scored.baseline_rule == "the bit just read"
