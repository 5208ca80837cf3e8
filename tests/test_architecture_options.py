"""Every option of every architecture at its edges: an error that names it, or it works."""

import inspect
import math
from typing import Any, Literal, get_args, get_origin, get_type_hints

import pytest
import torch

from architectures import ARCHITECTURES
from bench.catalogue import make_body
from bench.errors import UserError
from bench.spec import Choice
from tests.agreement import normal

EDGES: dict[type, tuple[Any, ...]] = {
    int: (0, -1),
    float: (0.0, -1.0, math.inf, math.nan),
    str: ("", "nonsense"),
}
NAMED_BY_WHAT_IT_IS = {"inner": "no architecture", "model_type": "no decoder"}
OF_ANOTHER = {name: "rank" if name != "rwkv7" else "expand" for name in ARCHITECTURES}


def kinds_of(hint: Any) -> set[Any]:
    """The plain types of an annotation; a choice of words counts as a string."""
    if get_origin(hint) is Literal:
        return {type(word) for word in get_args(hint)}
    if get_origin(hint) in (dict, list):
        return {get_origin(hint)}
    parts = get_args(hint)
    return {hint} if not parts else set().union(*map(kinds_of, parts))


def options_of(name: str) -> list[tuple[str, set[Any]]]:
    architecture = ARCHITECTURES[name]
    hints = get_type_hints(architecture.__init__)
    given = inspect.signature(architecture).parameters
    return [(option, kinds_of(hints[option])) for option in given]


CASES = [
    (name, option, value)
    for name in ARCHITECTURES
    for option, kinds in options_of(name)
    for kind, values in EDGES.items()
    if kind in kinds and not kinds & {dict, list}
    for value in values
]


def works(body: Any) -> bool:
    """Whether it trains, streams and takes padding, all in numbers that are finite."""
    x = normal(2, 5, body.width).float()
    y, state = body(x)
    y.square().mean().backward()
    outputs = [y, body(x, lengths=torch.tensor([5, 2]))[0][:, :2]]
    if body.causal:
        outputs += [body(x, state)[0], body.step(x[:, 0], state)[0]]
    gradients = [p.grad for p in body.parameters() if p.grad is not None]
    return all(bool(tensor.isfinite().all()) for tensor in outputs + gradients)


@pytest.mark.parametrize(("name", "option", "value"), CASES)
def test_an_option_at_its_edge_is_refused_by_name_or_works(
    name: str, option: str, value: Any
) -> None:
    architecture: Any = ARCHITECTURES[name]
    torch.manual_seed(0)
    refusal = ""
    try:
        body = architecture(**{"width": 16, option: value})
    except ValueError as error:
        refusal = str(error)
    if refusal:
        assert NAMED_BY_WHAT_IT_IS.get(option, option) in refusal
    else:
        assert works(body)


def test_the_edges_reach_every_kind_of_option() -> None:
    reached = {(name, option) for name, option, _ in CASES}
    for name in ARCHITECTURES:
        for option, kinds in options_of(name):
            assert (name, option) in reached or kinds & {bool, dict, list}, (name, option)
    assert len([case for case in CASES if case[2] == -1 and case[1] == "layers"]) > 20


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_width_that_cannot_be_had_is_refused_with_the_nearest(name: str) -> None:
    architecture: Any = ARCHITECTURES[name]
    multiple = architecture.width_multiple()
    architecture(3 * multiple)
    if multiple > 1:
        # The library says of hf what its own models want.
        message = r"divisible" if name == "hf" else r"must divide width .*nearest widths"
        with pytest.raises(ValueError, match=message):
            architecture(3 * multiple + 1)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_an_option_of_another_architecture_is_refused(name: str) -> None:
    foreign = OF_ANOTHER[name]
    choice = Choice(name=name, options={foreign: 4})
    with pytest.raises(UserError, match=foreign):
        make_body(choice, 16)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_an_option_of_the_wrong_type_is_refused(name: str) -> None:
    """By the harness, for all at once: what a study says goes through their signatures."""
    for option, kinds in options_of(name)[1:]:
        wrong: Any = 1.5 if int in kinds and float not in kinds else [3.0]
        with pytest.raises(UserError, match=option):
            make_body(Choice(name=name, options={option: wrong}), 16)
