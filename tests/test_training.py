"""Training: the protocol that every architecture gets, and what it leaves in a row."""

import math
import warnings
from typing import get_args

import lightning
import pytest
import torch
from torch import nn

from architectures.body import Body, ParamGroup, UnsupportedError
from bench.errors import UserError
from bench.spec import Precision, Run, TrainingSpec, parse_run
from bench.training.budget import solve, width_of
from bench.training.data import EvaluationOrder, TaskDataModule, TrainOrder
from bench.training.execute import (
    diagnose,
    execute,
    measured_state_bytes,
    prepare,
)
from bench.training.fit import fit
from bench.training.model import SequenceModel, count_parameters
from bench.training.module import DivergedError
from bench.training.optimiser import factor, make_optimiser
from bench.training.scores import Scores
from bench.training.truncated import backward_through_windows, scored_answers
from tasks.task import UNSCORED, Batch, Count

FLOAT64 = 1e-12  # sums of a few dozen float64 products, in another order


def a_run(**changes: object) -> Run:
    training = {"steps": 4, "batch_size": 8, "learning_rate": 1e-2}
    base = {"architecture": "gru", "task": "parity", "length": 12, "width": 16}
    training |= changes.pop("training", {})
    return parse_run({**base, "training": training, **changes})


def row_of(run: Run):
    return execute(run, "test", {})


# --- schedule and optimiser


def test_the_learning_rate_of_the_last_step_is_the_one_in_the_config():
    training = TrainingSpec(
        steps=50, learning_rate=0.1, final_learning_rate=0.02, warmup_steps=5, schedule="cosine"
    )
    rate = factor(training)
    assert 0.1 * rate(49) == pytest.approx(0.02)
    assert 0.1 * rate(4) == pytest.approx(0.1)
    assert rate(0) == pytest.approx(1 / 5)
    assert all(rate(step) > rate(step + 1) for step in range(5, 49))


def test_the_schedule_is_followed_while_training(monkeypatch):
    """A schedule that is configured and never stepped is the commonest silent fault."""
    seen: list[float] = []
    step = torch.optim.AdamW.step

    def watched(self, closure=None):
        seen.append(self.param_groups[0]["lr"])
        return step(self, closure)

    monkeypatch.setattr(torch.optim.AdamW, "step", watched)
    run = a_run(training={"steps": 6, "warmup_steps": 2, "final_learning_rate": 1e-4})
    assert row_of(run).status == "ok"
    expected = [1e-2 * factor(run.training)(k) for k in range(6)]
    assert seen == pytest.approx(expected)
    assert seen[-1] == pytest.approx(1e-4)


class Special(Body):
    """A body whose paper asks for its own learning rate and decay."""

    def __init__(self, width: int) -> None:
        super().__init__(width)
        self.decay = nn.Parameter(torch.ones(width, 1))
        self.rest = nn.Linear(width, width)

    def param_groups(self) -> list[ParamGroup]:
        return [ParamGroup(parameters=(self.decay,), weight_decay=0.0, max_learning_rate=1e-3)]


def test_a_body_s_own_groups_reach_the_optimiser():
    model = SequenceModel(Special(4), prepare(a_run()).task)
    optimiser = make_optimiser(model, TrainingSpec(learning_rate=0.1, weight_decay=0.5))
    by_parameter = {id(p): group for group in optimiser.param_groups for p in group["params"]}
    assert len(by_parameter) == len(list(model.parameters()))
    special = by_parameter[id(model.body.decay)]
    assert (special["lr"], special["weight_decay"]) == (1e-3, 0.0)
    matrix = by_parameter[id(model.body.rest.weight)]
    assert (matrix["lr"], matrix["weight_decay"]) == (0.1, 0.5)
    assert by_parameter[id(model.body.rest.bias)]["weight_decay"] == 0.0


# --- budget


def test_the_width_is_solved_for_the_budget():
    for name in ("lstm", "gru", "s4d", "transformer", "mamba", "rnn_stack"):
        run = a_run(architecture=name, width=None, params=60_000)
        model = prepare(run).model
        assert count_parameters(model) == pytest.approx(60_000, rel=0.15)


def test_no_other_width_is_nearer_to_the_budget():
    count = lambda width: 7 * width * width + 3 * width  # noqa: E731
    for target in (10, 11, 500, 12345):
        found = solve(count, target, 2)
        assert all(
            abs(count(found) - target) <= abs(count(other) - target) for other in range(2, 200, 2)
        )


def test_a_budget_below_the_narrowest_model_is_an_error():
    run = a_run(task="mqar", length=64, width=None, params=100)
    with pytest.raises(UserError, match="no width with about 100 parameters"):
        width_of(run, prepare(a_run(task="mqar", length=64)).task)


def test_the_budget_can_count_the_body_alone():
    run = a_run(task="mqar", length=64, width=None, params=20_000, params_of="body")
    model = prepare(run).model
    assert count_parameters(model.body) == pytest.approx(20_000, rel=0.1)


# --- data order


def test_one_device_and_two_see_the_same_examples_in_the_same_batches():
    alone = list(TrainOrder(100, 10, 15, seed=3, rank=0, world_size=1))
    shares = [list(TrainOrder(100, 10, 15, seed=3, rank=rank, world_size=2)) for rank in (0, 1)]
    for whole, first, second in zip(alone, *shares, strict=True):
        assert sorted(whole.tolist()) == sorted([*first.tolist(), *second.tolist()])


def test_an_epoch_holds_every_example_once_and_the_next_one_has_another_order():
    batches = list(TrainOrder(30, 10, 6, seed=0, rank=0, world_size=1))
    first, second = torch.cat(batches[:3]), torch.cat(batches[3:])
    assert sorted(first.tolist()) == sorted(second.tolist()) == list(range(30))
    assert first.tolist() != second.tolist()


@pytest.mark.parametrize("world_size", [1, 2, 3, 7])
def test_evaluation_counts_every_example_once_on_any_number_of_devices(world_size):
    seen = [
        index
        for rank in range(world_size)
        for batch in EvaluationOrder(23, 4, rank, world_size)
        for index in batch.tolist()
    ]
    assert sorted(seen) == list(range(23))


def test_no_training_example_is_evaluated(monkeypatch):
    """The loaders ask the task for the split that they are named after."""
    run = a_run(task="digits", length=16)
    data = TaskDataModule(run, prepare(run).task)
    for split in ("train", "val", "test"):
        loader = getattr(data, f"{split}_dataloader")()
        assert loader.dataset.split == split


# --- metrics


def test_metrics_are_divided_once():
    """Two batches with 1 and 9 answers: the mean of means would be 0.5."""
    scores = Scores()
    scores.add({"accuracy": Count(torch.tensor(1.0), torch.tensor(1))})
    scores.add({"accuracy": Count(torch.tensor(0.0), torch.tensor(9))})
    assert scores.reduce(lambda pair: pair) == {"accuracy": 0.1}
    assert scores.reduce(lambda pair: 2 * pair) == {"accuracy": 0.1}  # two equal devices


def test_a_metric_that_nothing_counted_is_not_zero():
    scores = Scores()
    scores.add({"accuracy": Count(torch.tensor(0.0), torch.tensor(0))})
    assert math.isnan(scores.reduce(lambda pair: pair)["accuracy"])


# --- truncated backpropagation through time


def doubled(run: Run):
    prepared = prepare(run)
    prepared.model.double()
    return prepared


def gradients(model: nn.Module) -> list[torch.Tensor]:
    return [p.grad.clone() for p in model.parameters() if p.grad is not None]


@pytest.mark.parametrize("name", ["gru", "lstm", "s4d", "mamba", "transformer"])
def test_a_window_over_everything_is_full_backpropagation(name):
    prepared = doubled(a_run(architecture=name))
    model, task, batch = prepared.model, prepared.task, prepared.batch()
    outputs, _ = model(batch.inputs)
    loss, count = task.loss(outputs, batch.targets)
    (loss / count).backward()
    full = gradients(model)
    model.zero_grad()
    total = scored_answers(batch)
    truncated = backward_through_windows(
        model, task, batch, 12, total, lambda part: part.backward()
    )
    assert truncated.item() == pytest.approx((loss / count).item(), abs=FLOAT64)
    for expected, found in zip(full, gradients(model), strict=True):
        assert torch.allclose(expected, found, rtol=1e-9, atol=FLOAT64)


def test_the_window_cuts_the_gradient_and_not_the_state():
    """With windows of 4, the loss at the last step moves through the first inputs, yet its
    gradient does not reach them."""
    prepared = doubled(a_run())
    model, task, batch = prepared.model, prepared.task, prepared.batch()
    model.requires_grad_(False)
    model.embedding.requires_grad_(True)
    targets = torch.full_like(batch.targets, UNSCORED)
    targets[:, -1] = 1

    def loss_with(first_token: int) -> tuple[float, torch.Tensor]:
        inputs = torch.ones_like(batch.inputs)
        inputs[:, :4] = first_token
        changed = Batch(inputs=inputs, targets=targets)
        model.zero_grad()
        loss = backward_through_windows(
            model, task, changed, 4, scored_answers(changed), lambda part: part.backward()
        )
        return loss.item(), model.embedding.weight.grad.clone()

    zeros, gradient = loss_with(0)
    ones, _ = loss_with(1)
    assert zeros != ones
    assert gradient[0].abs().max() == 0.0  # token 0 stands in the first window alone
    assert gradient[1].abs().max() > 0.0


def test_a_truncated_run_takes_as_many_updates_and_the_same_data():
    plain, truncated = row_of(a_run()), row_of(a_run(training={"tbptt_window": 5}))
    assert truncated.status == "ok", truncated.log_tail
    assert truncated.metrics["steps_done"] == plain.metrics["steps_done"] == 4
    assert truncated.metrics["train_tokens"] == plain.metrics["train_tokens"]


def test_a_truncated_run_with_one_window_ends_where_the_plain_one_does():
    plain, truncated = row_of(a_run()), row_of(a_run(training={"tbptt_window": 12}))
    # The score of a few hundred answers: equal unless the weights differ visibly.
    assert truncated.metrics["test_score"] == plain.metrics["test_score"]
    assert truncated.curves["val_accuracy"] == plain.curves["val_accuracy"]


def test_clipping_bounds_the_update_of_a_truncated_run():
    free = a_run(
        training={
            "tbptt_window": 4,
            "optimiser": "sgd",
            "learning_rate": 1.0,
            "steps": 1,
            "weight_decay": 0.0,
            "clip_norm": None,
        }
    )
    tight = a_run(
        training={
            **free.training.model_dump(exclude_defaults=True),
            "clip_norm": 1e-6,
            "weight_decay": 0.0,
        }
    )

    def moved(run: Run) -> float:
        prepared = prepare(run)
        before = [p.detach().clone() for p in prepared.model.parameters()]
        fit(run, prepared.task, prepared.model)
        after = list(prepared.model.parameters())
        return sum((b - a).abs().sum().item() for b, a in zip(before, after, strict=True))

    assert moved(tight) < 1e-3 < moved(free)


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


# --- whole runs


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
        torch.nn.utils.clip_grad_norm_(plain.model.parameters(), 0.05)
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
    mean = model._pooled(y, lengths)
    assert torch.allclose(mean[0], y[0, :3].mean(0), atol=1e-6)
    model.pool = "last"
    assert torch.equal(model._pooled(y, lengths)[0], y[0, 2])


def test_a_run_warns_of_nothing():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert row_of(a_run()).status == "ok"
