"""xLSTM's cells and blocks against loops of their equations, and against transformers."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import gradcheck
from torch.nn.functional import silu

from architectures.kernels.mlstm import mlstm
from architectures.kernels.slstm import slstm
from architectures.kernels.ssd import CHUNK_TOKENS
from tests.agreement import (
    agree_with_gradients,
    agree_with_loop,
    close,
    convolved,
    normal,
    perturbed,
)
from tests.matrix_scans import LENGTHS, ssd_inputs

# The same, where y divides by a sum that may have cancelled to a thousandth of its terms.
FEW_CANCELLED = 1e-9


def mlstm_inputs(length: int, size: int = 4) -> list[Tensor]:
    """Input gates from e^-9 to e^9, and the m of a state that a call could have returned."""
    q, k, v, _, state = (x.detach() for x in ssd_inputs(length, size=size))
    log_input, forget = 3 * normal(2, length, 3, seed=6), 2 * normal(2, length, 3, seed=7)
    v = v[..., 1:].clone()  # the memory has one column more, n
    inputs = [q, k, v, log_input, forget.sigmoid().log(), state, normal(2, 3, seed=8).abs()]
    return [tensor.requires_grad_() for tensor in inputs]


def mlstm_flat(*inputs: Tensor) -> tuple[Tensor, ...]:
    y, (memory, m) = mlstm(*inputs[:5], (inputs[5], inputs[6]))
    return y, memory, m


def mlstm_by_loop(*inputs: Tensor) -> tuple[Tensor, ...]:
    """Equations 19 to 21 as they are, without a stabiliser; at the end divided by e^m."""
    q, k, v, log_input, log_forget, memory, m = inputs
    scaled = memory * m.exp()[..., None, None]
    C, n, outputs = scaled[..., :-1], scaled[..., -1], []
    for t in range(q.shape[1]):
        i, f = log_input[:, t].exp().unsqueeze(2), log_forget[:, t].exp().unsqueeze(2)
        C = f.unsqueeze(3) * C + (i * k[:, t]).unsqueeze(3) * v[:, t].unsqueeze(2)
        n = f * n + i * k[:, t]
        floor = (n * q[:, t]).sum(2, keepdim=True).abs().clamp(min=1.0)
        outputs.append((C * q[:, t].unsqueeze(3)).sum(2) / floor)
        m = torch.maximum(log_forget[:, t] + m, log_input[:, t].clamp(min=0.0))
    memory = torch.cat([C, n.unsqueeze(3)], dim=3) / m.exp()[..., None, None]
    return torch.stack(outputs, dim=1), memory, m


@pytest.mark.parametrize("length", LENGTHS)
def test_mlstm_equals_the_loop_with_all_gradients(length: int) -> None:
    agree_with_gradients((mlstm_flat, mlstm_by_loop), mlstm_inputs(length), FEW_CANCELLED)


def test_mlstm_passes_gradcheck_through_both_states() -> None:
    assert gradcheck(mlstm_flat, mlstm_inputs(3, size=2))


def test_mlstm_equals_transformers() -> None:
    from transformers.models.xlstm import modeling_xlstm

    q, k, v, log_input, _, *_ = (x.detach() for x in mlstm_inputs(2 * CHUNK_TOKENS + 5))
    log_input, forget = 50 * log_input, normal(2, 2 * CHUNK_TOKENS + 5, 3, seed=7)
    heads_first = [part.transpose(1, 2) for part in (q, k, v, log_input, forget)]
    found = modeling_xlstm.mlstm_recurrent_sequence_native(
        *heads_first, eps=0.0, dtype_state=torch.float64
    )
    # The peer divides q by sqrt(N), 2 here.
    y, _ = mlstm(q / 2, k, v, log_input, forget.sigmoid().log())
    assert log_input.max() > 300  # e^300 is beyond float32, and what is tested is the stabiliser
    close(y, found.transpose(1, 2), FEW_CANCELLED)


def test_mlstm_in_float32_survives_any_gate() -> None:
    q, k, v, log_input, _, *_ = (x.detach().float() for x in mlstm_inputs(9))
    for gate in (1e4, -1e4):
        log_forget = torch.full_like(log_input, gate).sigmoid().clamp(min=1e-30).log()
        y, (memory, m) = mlstm(q, k, v, torch.full_like(log_input, gate), log_forget)
        assert all(part.isfinite().all() for part in (y, memory, m))


def slstm_inputs(length: int, size: int = 2) -> list[Tensor]:
    """Input gates of some hundred, that overflow unless a maximum is taken out."""
    gates = normal(2, length, 3, 4, size, seed=1)
    gates[:, :, :, 1] *= 100
    inputs = [
        gates.flatten(3),
        normal(3, size, 4 * size, seed=2),
        normal(2, 3, size, seed=3).tanh(),
        normal(2, 3, size, seed=4),
        normal(2, 3, size, seed=5).exp(),
        normal(2, 3, size, seed=6),
    ]
    return [tensor.requires_grad_() for tensor in inputs]


def slstm_flat(*inputs: Tensor) -> tuple[Tensor, ...]:
    h, c, n, m = inputs[2:]
    y, final = slstm(inputs[0], inputs[1], (h, c, n, m))
    return y, *final


def slstm_by_loop(*inputs: Tensor) -> tuple[Tensor, ...]:
    gates, recurrent, h, c, n, m = inputs
    outputs = []
    for t in range(gates.shape[1]):
        summed = gates[:, t] + (h.unsqueeze(3) * recurrent).sum(2)
        z, i, f, o = summed.unflatten(2, (4, -1)).unbind(2)
        log_forget = f.sigmoid().log()
        before, m = m, torch.maximum(log_forget + m, i)
        c = (log_forget + before - m).exp() * c + (i - m).exp() * z.tanh()
        n = (log_forget + before - m).exp() * n + (i - m).exp()
        h = o.sigmoid() * c / n
        outputs.append(h)
    return torch.stack(outputs, dim=1), h, c, n, m


@pytest.mark.parametrize("length", [1, 2, 17])
def test_slstm_equals_the_loop_with_all_gradients(length: int) -> None:
    agree_with_gradients((slstm_flat, slstm_by_loop), slstm_inputs(length))


def test_slstm_is_its_equations_without_the_maximum() -> None:
    gates, recurrent, *_ = (x.detach() for x in slstm_inputs(9))
    gates = gates / 100
    h = c = n = torch.zeros(2, 3, 2, dtype=torch.float64)
    y, _ = slstm(gates, recurrent)
    for t in range(9):
        summed = gates[:, t] + (h.unsqueeze(3) * recurrent).sum(2)
        z, i, f, o = summed.unflatten(2, (4, -1)).unbind(2)
        c, n = f.sigmoid() * c + i.exp() * z.tanh(), f.sigmoid() * n + i.exp()
        h = o.sigmoid() * c / n
        close(y[:, t], h)


def test_slstm_passes_gradcheck_through_both_states() -> None:
    inputs = slstm_inputs(3)
    inputs[0] = normal(2, 3, 3, 8, seed=1).requires_grad_()
    assert gradcheck(slstm_flat, inputs)


def by_blocks(x: Tensor, part: Any) -> Tensor:
    """A block-diagonal product, with the whole matrix."""
    return x @ torch.block_diag(*part.weight.unbind(0))


def of_unit_deviation(y: Tensor) -> Tensor:
    centred = y - y.mean(3, keepdim=True)
    return (centred / (centred.square().mean(3, keepdim=True) + 1e-5).sqrt()).flatten(2)


def mlstm_block_by_loop(mixer: Any, x: Tensor) -> Tensor:
    u, z = (x @ mixer.project_up.weight.t()).chunk(2, dim=2)
    c = silu(convolved(u, mixer.convolution.weight, mixer.convolution.bias))
    q, k, v = by_blocks(c, mixer.q), by_blocks(c, mixer.k), by_blocks(u, mixer.v)
    gates = torch.cat([q, k, v], dim=2) @ mixer.gates.weight.t() + mixer.gates.bias
    q, k, v = (part.unflatten(2, (4, -1)) for part in (q, k / math.sqrt(8), v))
    nothing = torch.zeros(len(x), 4, 8, 9, dtype=x.dtype)
    log_forget = gates[..., 4:].sigmoid().log()
    y = mlstm_by_loop(q, k, v, gates[..., :4], log_forget, nothing, nothing[..., 0, 0])[0]
    y = of_unit_deviation(y) * mixer.norm_weight
    return ((y + mixer.skip * c) * silu(z)) @ mixer.project_down.weight.t()


def slstm_block_by_loop(mixer: Any, x: Tensor) -> Tensor:
    c = silu(convolved(x, mixer.convolution.weight, mixer.convolution.bias))
    parts = [by_blocks(x, mixer.z), by_blocks(c, mixer.i), by_blocks(c, mixer.f)]
    parts.append(by_blocks(x, mixer.o))
    gates = torch.stack([part.unflatten(2, (4, -1)) for part in parts], dim=3) + mixer.bias
    nothing = torch.zeros(len(x), 4, 4, dtype=x.dtype)
    cell = nothing, nothing, nothing, nothing - torch.inf
    y = slstm_by_loop(gates.flatten(3), mixer.recurrent, *cell)[0]
    return of_unit_deviation(y) * mixer.norm_weight


def test_xlstms_blocks_are_the_loops_of_their_equations() -> None:
    matrix, scalar, mlp = (block.mixer for block in perturbed("xlstm").blocks)
    agree_with_loop(matrix, mlstm_block_by_loop, normal(2, 37, 16))
    agree_with_loop(scalar, slstm_block_by_loop, normal(2, 37, 16))
    x = normal(2, 5, 16)
    gate, value = (x @ mlp.project_up.weight.t()).chunk(2, dim=2)
    close(mlp(x)[0], (nn.functional.gelu(gate) * value) @ mlp.project_down.weight.t())


@pytest.mark.parametrize(("every", "expected"), [(0, ""), (1, "ssss"), (2, "msms"), (3, "mmsm")])
def test_xlstm_has_slstm_in_the_layers_asked_for(every: int, expected: str) -> None:
    body = perturbed("xlstm", layers=4, slstm_every=every, mlp_ratio=0.0)
    kinds = [type(block.mixer).__name__[0].lower() for block in body.blocks]
    assert "".join(kinds) == (expected or "mmmm")
