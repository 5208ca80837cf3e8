"""One token through a recurrent layer: torch's cell, and the same numbers as the whole sequence."""

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from architectures.body import State
from architectures.layers.recurrent import RecurrentStack

OPTIONS = {
    "rnn": {"nonlinearity": "relu"},
    "lstm": {"learn_initial_state": True},
    "gru": {"learn_initial_state": True},
    "rnn tanh": {},
}
# Sums of a few products in another order; bfloat16 has 8 bits, and so have the gates' sums.
TOLERANCES = {torch.float64: 1e-14, torch.float32: 1e-6, torch.bfloat16: 0.03}


class Operators(TorchDispatchMode):
    """The names of the operators that run."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        self.names.add(str(function))
        return function(*arguments, **(options or {}))


def stack(name: str, dtype: torch.dtype = torch.float32, **more: object) -> RecurrentStack:
    torch.manual_seed(0)
    body = RecurrentStack(19, name.partition(" ")[0], layers=2, **OPTIONS[name], **more)
    for initial in body.initial_state or ():
        nn.init.normal_(initial)
    return body.to(dtype)


def stepped(body: RecurrentStack, x: Tensor) -> tuple[Tensor, State]:
    outputs, state = [], None
    for x_t in x.unbind(1):
        y_t, state = body.step(x_t, state)
        outputs.append(y_t)
    return torch.stack(outputs, dim=1), state


@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("name", OPTIONS)
def test_steps_are_the_sequence_in_every_dtype(name: str, dtype: torch.dtype) -> None:
    body, x = stack(name, dtype), torch.randn(3, 12, 19).to(dtype)
    tolerance = TOLERANCES[dtype]
    with torch.no_grad():
        torch.testing.assert_close(stepped(body, x), body(x), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", OPTIONS)
def test_under_autocast_steps_keep_the_dtypes_of_the_sequence(name: str) -> None:
    body, x = stack(name), torch.randn(3, 12, 19)
    tolerance = TOLERANCES[torch.bfloat16]
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(stepped(body, x), body(x), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", OPTIONS)
def test_the_gradient_through_steps_is_that_of_the_sequence(name: str) -> None:
    body, x = stack(name, torch.float64), torch.randn(2, 5, 19, dtype=torch.float64)
    cotangent, found = torch.randn_like(x), []
    for run in (body, lambda x: stepped(body, x)):
        given = x.clone().requires_grad_()
        y, _ = run(given)
        found.append(torch.autograd.grad((y * cotangent).sum(), (given, *body.parameters())))
    torch.testing.assert_close(*found)


@pytest.mark.parametrize("name", OPTIONS)
def test_a_step_prepares_nothing_that_a_sequence_needs(name: str) -> None:
    """Neither native code, which packs the weights, nor oneDNN's layer, which reorders them."""
    body, x_t = stack(name).eval(), torch.randn(1, 19)
    with torch.no_grad(), Operators() as operators:
        _, state = body.step(x_t)
        body.step(x_t, state)
    assert operators.names
    slow = [one for one in operators.names if one.startswith("seqbench") or "rnn_layer" in one]
    assert not slow


def test_dropout_between_layers_is_that_of_the_mode() -> None:
    body, x_t = stack("gru", dropout=0.9), torch.ones(1, 19)
    for training in (False, True):
        body.train(training)
        with torch.no_grad():
            outputs = torch.cat([body.step(x_t)[0] for _ in range(5)])
        assert (len(outputs.unique(dim=0)) > 1) == training
