"""The schedule, the optimiser's groups, and the width that a budget of parameters buys."""

import pytest
import torch
from torch import nn

from architectures.body import Body, ParamGroup
from bench.errors import UserError
from bench.spec import TrainingSpec
from bench.training.budget import solve, width_of
from bench.training.execute import (
    prepare,
)
from bench.training.model import SequenceModel, count_parameters
from bench.training.optimiser import factor, make_optimiser
from tests.small_run import a_run, row_of


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
