"""Truncated backpropagation through time: the gradient is cut, the state is not."""

import pytest
import torch
from torch import nn

from bench.spec import Run
from bench.training.execute import (
    prepare,
)
from bench.training.fit import fit
from bench.training.truncated import backward_through_windows, scored_answers
from tasks.task import UNSCORED, Batch
from tests.small_run import a_run, row_of

FLOAT64 = 1e-12  # sums of a few dozen float64 products, in another order


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
