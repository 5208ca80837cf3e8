"""Minimal GRU and LSTM against the loops of their paper, in float64."""

from typing import Any

import pytest
import torch
from torch import Tensor

from tests.agreement import SINGLE, agree_with_carried_loop, build, close, mixer_of, normal


def positive(x: Tensor) -> Tensor:
    """Appendix B of Feng et al.: g, x + 1/2 from 0 on and sigmoid(x) below."""
    return torch.where(x >= 0, x + 0.5, x.sigmoid())


def mingru_by_loop(mixer: Any, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """Feng et al. 2024, section 3.1."""
    W_z, W_c = mixer.project_in.weight.chunk(2)
    b_z, b_c = mixer.project_in.bias.chunk(2)
    outputs = []
    for x_t in x.unbind(1):
        z = torch.sigmoid(x_t @ W_z.t() + b_z)
        candidate = x_t @ W_c.t() + b_c
        if mixer.candidate == "positive":
            candidate = positive(candidate)
        state = (1 - z) * state + z * candidate
        outputs.append(state if mixer.project_out is None else mixer.project_out(state))
    return torch.stack(outputs, dim=1), state


def minlstm_by_loop(mixer: Any, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """Feng et al. 2024, section 3.2."""
    W_f, W_i, W_c = mixer.project_in.weight.chunk(3)
    b_f, b_i, b_c = mixer.project_in.bias.chunk(3)
    outputs = []
    for x_t in x.unbind(1):
        f = torch.sigmoid(x_t @ W_f.t() + b_f)
        i = torch.sigmoid(x_t @ W_i.t() + b_i)
        candidate = x_t @ W_c.t() + b_c
        if mixer.candidate == "positive":
            candidate = positive(candidate)
        state = f / (f + i) * state + i / (f + i) * candidate
        outputs.append(state if mixer.project_out is None else mixer.project_out(state))
    return torch.stack(outputs, dim=1), state


@pytest.mark.parametrize("candidate", ["linear", "positive"])
@pytest.mark.parametrize("expand", [1, 2])
@pytest.mark.parametrize(
    ("name", "loop"), [("mingru", mingru_by_loop), ("minlstm", minlstm_by_loop)]
)
def test_minimal_gates_equal_the_papers_loop(
    name: str, loop: Any, expand: int, candidate: str
) -> None:
    mixer = mixer_of(name, expand=expand, candidate=candidate)
    agree_with_carried_loop(mixer, loop, normal(3, 6 * expand, seed=4))


def test_minlstms_gates_sum_to_one_even_where_both_vanish() -> None:
    mixer = mixer_of("minlstm")
    shut = torch.full((1, 6), -800.0, dtype=torch.float64)  # sigmoid is 0 here
    keep, written = mixer.gate((shut, shut, torch.ones_like(shut)))
    close(keep, torch.full_like(keep, 0.5))
    close(written, torch.full_like(keep, 0.5))


def test_minlstms_forget_bias_is_the_option() -> None:
    plain, biased = build("minlstm", 6, layers=1), build("minlstm", 6, layers=1, forget_bias=2.0)
    added = biased.blocks[0].mixer.project_in.bias - plain.blocks[0].mixer.project_in.bias
    close(added, torch.tensor([2.0] * 6 + [0.0] * 12).double(), SINGLE)
