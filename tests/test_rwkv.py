"""RWKV-4 and RWKV-7 against loops of their equations."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck
from torch.nn.functional import pad

from architectures.kernels.wkv4 import wkv4
from tests.agreement import (
    agree_with_gradients,
    agree_with_loop,
    close,
    normal,
    perturbed,
)
from tests.matrix_scans import LENGTHS


def wkv4_inputs(length: int) -> list[Tensor]:
    """Keys of some hundred, that overflow unless a maximum is taken out."""
    inputs = [
        normal(4, seed=1).exp(),
        normal(4, seed=2),
        100 * normal(2, length, 4, seed=3),
        normal(2, length, 4, seed=4),
        normal(2, 4, seed=5),
        normal(2, 4, seed=6).exp(),
        normal(2, 4, seed=7),
    ]
    return [tensor.requires_grad_() for tensor in inputs]


def wkv4_flat(*inputs: Tensor) -> tuple[Tensor, ...]:
    w, u, k, v, *state = inputs
    y, final = wkv4(w, u, k, v, (state[0], state[1], state[2]))
    return y, *final


def wkv4_by_loop(*inputs: Tensor) -> tuple[Tensor, ...]:
    w, u, k, v, a, b, p = inputs
    outputs = []
    for k_t, v_t in zip(k.unbind(1), v.unbind(1), strict=True):
        top = torch.maximum(p, u + k_t)
        past, token = (p - top).exp(), (u + k_t - top).exp()
        outputs.append((past * a + token * v_t) / (past * b + token))
        top = torch.maximum(p - w, k_t)
        past, token = (p - w - top).exp(), (k_t - top).exp()
        a, b, p = past * a + token * v_t, past * b + token, top
    return torch.stack(outputs, dim=1), a, b, p


@pytest.mark.parametrize("length", LENGTHS)
def test_wkv4_equals_the_loop_with_all_gradients(length: int) -> None:
    agree_with_gradients((wkv4_flat, wkv4_by_loop), wkv4_inputs(length))


def test_wkv4_is_its_equation_without_the_maximum() -> None:
    w, u, k, v, *_ = (x.detach() for x in wkv4_inputs(9))
    k = k / 100
    for t in range(9):
        weights = [(-(t - 1 - s) * w + k[:, s]).exp() for s in range(t)]
        weights = torch.stack([*weights, (u + k[:, t]).exp()])  # (t + 1, B, E)
        expected = (weights * v[:, : t + 1].transpose(0, 1)).sum(0) / weights.sum(0)
        close(wkv4(w, u, k, v)[0][:, t], expected)


def test_wkv4_passes_gradcheck_through_both_states() -> None:
    inputs = wkv4_inputs(3)
    inputs[2] = normal(2, 3, 4, seed=3).requires_grad_()
    assert gradcheck(wkv4_flat, inputs)


def rwkv7_time_mixing_by_loop(mixer: Any, x: Tensor, first: Tensor | None = None) -> Tensor:
    """Section 4 of the paper, with its wkv (value by key) for each head."""

    def low_rank(name: str, x: Tensor, activation: Callable[[Tensor], Tensor]) -> Tensor:
        part = mixer.get_submodule(name)
        y = activation(x @ part.down) @ part.up
        return y if part.bias is None else y + part.bias

    before = pad(x, (0, 0, 1, 0))[:, :-1]
    x_r, x_k, x_v, x_d, x_a, x_g = (x + (before - x) * mix for mix in mixer.mix)
    r, k = x_r @ mixer.receptance.weight.t(), x_k @ mixer.key.weight.t()
    v = x_v @ mixer.value.weight.t()
    if first is not None:
        v = v + low_rank("share", x_v, lambda x: x).sigmoid() * (first - v)
    a = low_rank("rate", x_a, lambda x: x).sigmoid()
    w = torch.exp(-math.exp(-0.5) * low_rank("decay", x_d, torch.tanh).sigmoid())
    g = low_rank("gate", x_g, torch.sigmoid)
    heads = [part.unflatten(2, (4, -1)) for part in (r, w, k * mixer.erased, a, v)]
    r, w, removed, a, v = heads
    removed = removed / (removed.square().sum(3, keepdim=True) + 1e-12).sqrt()
    k = (k * (1 + (a.flatten(2) - 1) * mixer.rewritten)).unflatten(2, (4, -1))
    wkv, outputs = torch.zeros(len(x), 4, 4, 4, dtype=x.dtype), []
    for t in range(x.shape[1]):
        erase = removed[:, t, :, :, None] * (a * removed)[:, t, :, None, :]
        wkv = wkv @ (torch.diag_embed(w[:, t]) - erase) + v[:, t, :, :, None] * k[:, t, :, None, :]
        read = (wkv * r[:, t, :, None, :]).sum(3)
        centred = read - read.mean(2, keepdim=True)
        normed = centred / (centred.square().mean(2, keepdim=True) + 64e-5).sqrt()
        scored = (r[:, t] * mixer.bonus.view(4, 4) * k[:, t]).sum(2, keepdim=True) * v[:, t]
        outputs.append(
            (normed.flatten(1) * mixer.norm_weight + mixer.norm_bias) + scored.flatten(1)
        )
    return (g * torch.stack(outputs, dim=1)) @ mixer.output.weight.t()


def test_rwkv7_time_mixing_is_the_loop_of_its_equations() -> None:
    mixer = perturbed("rwkv7").blocks[0].mixer
    agree_with_loop(mixer, rwkv7_time_mixing_by_loop, normal(2, 37, 16))


def test_rwkv7_is_its_mixings_with_the_first_values_in_later_layers() -> None:
    body, x = perturbed("rwkv7"), normal(2, 37, 16)
    hidden, first = x, None
    for time, channel in (body.blocks[:2], body.blocks[2:]):
        normed = time.norm(hidden)
        hidden = hidden + rwkv7_time_mixing_by_loop(time.mixer, normed, first)
        if first is None:
            before = pad(normed, (0, 0, 1, 0))[:, :-1]
            mixed = normed + (before - normed) * time.mixer.mix[2]
            first = mixed @ time.mixer.value.weight.t()
        normed = channel.norm(hidden)
        before = pad(normed, (0, 0, 1, 0))[:, :-1]
        key = (normed + (before - normed) * channel.mixer.mix) @ channel.mixer.key.weight.t()
        hidden = hidden + key.relu().square() @ channel.mixer.value.weight.t()
    close(body(x)[0], body.norm(hidden))
