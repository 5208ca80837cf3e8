"""Losses and metrics of tasks: chance levels, sums and counts, and what is left out of them."""

from __future__ import annotations

import math

import pytest
import torch

from bench.training.truncated import scored_answers
from tasks import TASKS
from tasks.scoring import Writing, accuracy, cross_entropy, squared_error
from tasks.task import (
    UNSCORED,
    Batch,
    Count,
)
from tests import task_cases
from tests.example_tasks import (
    EXAMPLES,
    GENERATED,
    PERFECT,
    answers,
    n_of,
    nothing,
    take,
    within,
)

COUNTED_ALIKE = 1e-5  # relative: float32 sums of the same terms in another order

pytestmark = pytest.mark.usefixtures("own_blocks", "small_data_sets")


def test_within_tells_a_wrong_frequency() -> None:
    assert within(0.26, 0.25, 0.01)
    assert not within(0.29, 0.25, 0.01)
    assert not within(0.21, 0.25, 0.01)


OTHER_CHANCE = task_cases.names("OTHER_CHANCE")
AT_CHANCE = ["parity", "selective_copy", "digits", "smnist5k"]
AT_CHANCE += task_cases.names("UNTRAINED_AT_CHANCE")


@pytest.mark.parametrize(
    "name",
    [
        *(n for n in GENERATED if n not in OTHER_CHANCE),
        "digits",
        "smnist5k",
        *task_cases.names("BALANCED"),
    ],
)
def test_answers_of_other_examples_score_at_chance(name: str) -> None:
    """Blind guessing with the right distribution of answers."""
    task = EXAMPLES[name]
    batch = take(task, "test", n_of(task, "test", 1024))
    metric = task.metrics[0]
    if batch.targets.dtype == torch.float32:
        # The best blind answer to a regression is the mean.
        errors = (batch.targets - 1).square()
        assert within(errors.mean().item(), metric.chance, errors.std().item() / len(batch) ** 0.5)
        assert within(
            batch.targets.mean().item(), 1, batch.targets.std().item() / len(batch) ** 0.5
        )
        return
    scored = batch.targets[batch.targets != UNSCORED].view(len(batch), -1)
    guesses = torch.nn.functional.one_hot(scored.roll(1, 0), task.n_outputs).float()
    scores = task.score(guesses, scored)
    right, count = scores["forced_accuracy" if isinstance(task, Writing) else metric.name]
    p = metric.chance
    assert within((right / count).item(), p, math.sqrt(p * (1 - p) / count.item()))


@pytest.mark.parametrize("name", AT_CHANCE)
def test_untrained_networks_score_at_chance(name: str) -> None:
    task = EXAMPLES[name]
    batch = take(task, "test", n_of(task, "test", 256))
    scores = []
    for seed in range(16):
        found = task.score(answers(task, batch, seed), batch.targets)
        right, count = found["forced_accuracy" if isinstance(task, Writing) else "accuracy"]
        scores.append(right / count)
    means = torch.stack(scores)
    assert means.std() > 0
    assert within(means.mean().item(), task.metrics[0].chance, means.std().item() / 4)


def test_the_uniform_guess_has_8_bits_per_byte() -> None:
    task = EXAMPLES["python_bytes"]
    batch = take(task, "test", 3)
    bits, count = task.score(torch.zeros(3, 100, 256), batch.targets)["bits_per_byte"]
    assert count == 300
    assert (bits / count).item() == pytest.approx(task.metrics[0].chance) == pytest.approx(8)


@pytest.mark.parametrize("name", TASKS)
def test_metrics_of_64_equal_those_of_32_and_32_with_different_masks(name: str) -> None:
    task = EXAMPLES[name]
    half = n_of(task, "test", 64) // 2
    first, second = slice(half), slice(half, 2 * half)
    batch = take(task, "test", 2 * half)
    targets = batch.targets.clone()
    if task.kind == "per_step":
        targets[:half, : task.length - 2] = nothing(targets)
    outputs = answers(task, batch, 0)
    halves = [task.score(outputs[part], targets[part]) for part in (first, second)]
    whole = task.score(outputs, targets)
    written = task.score_written(batch.targets, batch) if task.kind == "seq2seq" else {}
    assert list(whole) == [m.name for m in task.metrics if m.name not in written]
    for metric, (total, count) in whole.items():
        assert total.ndim == count.ndim == 0
        assert total.dtype == count.dtype == torch.float32
        assert sum(half[metric].count.item() for half in halves) == count.item()
        summed = sum(half[metric].sum.item() for half in halves)
        assert summed == pytest.approx(total.item(), rel=COUNTED_ALIKE)
    loss, count = task.loss(outputs, targets)
    parts = [task.loss(outputs[part], targets[part]) for part in (first, second)]
    assert sum(part.sum.item() for part in parts) == pytest.approx(loss.item(), rel=COUNTED_ALIKE)
    assert sum(part.count.item() for part in parts) == count.item()


@pytest.mark.parametrize("name", [n for n in TASKS if TASKS[n].kind == "per_step"])
def test_unscored_positions_change_nothing(name: str) -> None:
    task = EXAMPLES[name]
    batch = take(task, "test", 8)
    targets = batch.targets.clone()
    targets[:, ::3] = nothing(targets)
    unscored = targets == UNSCORED if targets.dtype == torch.int64 else targets.isnan().all(-1)
    outputs = answers(task, batch, 0)
    other = torch.where(unscored[..., None], 100 * torch.randn_like(outputs), outputs)
    assert not torch.equal(outputs, other)
    before, after = task.score(outputs, targets), task.score(other, targets)
    assert {k: v.sum.item() for k, v in before.items()} == {
        k: v.sum.item() for k, v in after.items()
    }
    other.requires_grad_()
    loss, count = task.loss(other, targets)
    assert loss.item() == task.loss(outputs, targets).sum.item()
    assert count.item() == scored_answers(Batch(batch.inputs, targets)).item()
    (gradient,) = torch.autograd.grad(loss, other)
    assert (gradient[unscored] == 0).all()
    assert (gradient[~unscored] != 0).any()


@pytest.mark.parametrize("name", TASKS)
def test_the_loss_falls_along_its_gradient(name: str) -> None:
    task = EXAMPLES[name]
    batch = take(task, "train", 4)
    outputs = answers(task, batch, 0).requires_grad_()
    before = task.loss(outputs, batch.targets).sum
    (gradient,) = torch.autograd.grad(before, outputs)
    after = task.loss(outputs - 0.01 * gradient, batch.targets).sum
    assert after < before


@pytest.mark.parametrize("name", TASKS)
def test_right_answers_score_best(name: str) -> None:
    task = EXAMPLES[name]
    batch = take(task, "test", n_of(task, "test", 16))
    if batch.targets.dtype == torch.float32:
        perfect, best = PERFECT.get(name, torch.clone)(batch.targets), 0.0
    else:
        labels = batch.targets.clamp(min=0)
        perfect = 100 * torch.nn.functional.one_hot(labels, task.n_outputs).float()
        best = 1.0 if task.metrics[0].higher_is_better else 0.0
    scores = {**task.score(perfect, batch.targets), **task.score_written(batch.targets, batch)}
    total, count = scores[task.metrics[0].name]
    found = task.metrics[0].finish(total.reshape(-1).tolist(), count.item())
    if task.metrics[0].name == "perplexity":
        best = 1.0  # exp(0)
    assert found == pytest.approx(best)


def numbers(count: Count) -> tuple[float, float]:
    return count.sum.item(), count.count.item()


def test_scores_by_hand() -> None:
    outputs = torch.tensor([[[2.0, 0.0], [0.0, 2.0]], [[2.0, 0.0], [9.0, 0.0]]])
    labels = torch.tensor([[0, 0], [UNSCORED, 0]])
    assert numbers(accuracy(outputs, labels)) == (2.0, 3.0)
    nats, count = cross_entropy(outputs, labels)
    expected = math.log1p(math.exp(-2)) + math.log1p(math.exp(2)) + math.log1p(math.exp(-9))
    assert nats.item() == pytest.approx(expected)
    assert count == 3
    assert numbers(cross_entropy(outputs, torch.full((2, 2), UNSCORED))) == (0.0, 0.0)
    error = squared_error(torch.tensor([[1.0], [3.0]]), torch.tensor([[0.0], [1.0]]))
    assert numbers(error) == (5.0, 2.0)


def test_half_precision_outputs_are_scored_in_single_precision() -> None:
    outputs = torch.zeros(4, 2048, 7, dtype=torch.bfloat16)
    nats, _ = cross_entropy(outputs, torch.zeros(4, 2048, dtype=torch.int64))
    assert nats.item() == pytest.approx(4 * 2048 * math.log(7), rel=1e-5)
