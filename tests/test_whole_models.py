"""Whole RWKV-7 and xLSTM, token by token from the papers' equations, with caches of their own.

No library on a CPU has either: transformers has no RWKV-7, and its xLSTM is that of xLSTM-7B, whose
blocks are others. These loops share with the architectures the weights and nothing else.
"""

import math
from collections.abc import Callable
from typing import Any, TypeAlias

import pytest
import torch
from torch import Tensor
from torch.nn.functional import gelu, silu

from tests.agreement import close_to_largest, normal, perturbed

EXACT = 1e-10  # float64, through a dozen blocks of sums in another order; relative to the largest
PREFILL, LENGTH = 19, 41

Cache: TypeAlias = dict[Any, Tensor]
Step: TypeAlias = Callable[[Any, Tensor, Cache], Tensor]


def standardised(x: Tensor, epsilon: float) -> Tensor:
    """Mean 0 and variance 1 along the last dimension."""
    centred = x - x.mean(-1, keepdim=True)
    return centred / (centred.square().mean(-1, keepdim=True) + epsilon).sqrt()


def layer_normed(x: Tensor, norm: Any) -> Tensor:
    return standardised(x, 1e-5) * norm.weight + norm.bias


def low_rank(part: Any, x: Tensor, activation: Callable[[Tensor], Tensor]) -> Tensor:
    """The low-rank maps of Peng et al. 2025, section 4: f(x A) B + bias."""
    y = activation(x @ part.down) @ part.up
    return y if part.bias is None else y + part.bias


def rwkv7_token(body: Any, x: Tensor, cache: Cache) -> Tensor:
    """One token x (B, D) through Peng et al. 2025, section 4."""
    heads, first_value = body.blocks[0].mixer.heads, None
    for index in range(0, len(body.blocks), 2):
        block, channel = body.blocks[index], body.blocks[index + 1]
        mixer, new = block.mixer, layer_normed(x, block.norm)
        old = cache.get((index, "token"), torch.zeros_like(x))
        cache[index, "token"] = new
        x_r, x_k, x_v, x_w, x_a, x_g = (new + (old - new) * mu for mu in mixer.mix)
        r, k = x_r @ mixer.receptance.weight.T, x_k @ mixer.key.weight.T
        v = x_v @ mixer.value.weight.T
        if first_value is None:
            first_value = v
        else:
            share = torch.sigmoid(low_rank(mixer.share, x_v, lambda hidden: hidden))
            v = (1 - share) * v + share * first_value
        rate = torch.sigmoid(low_rank(mixer.rate, x_a, lambda hidden: hidden))
        log_w = -math.exp(-0.5) * torch.sigmoid(low_rank(mixer.decay, x_w, torch.tanh))
        gate = low_rank(mixer.gate, x_g, torch.sigmoid)
        removal = k * mixer.erased
        k = k * ((1 - mixer.rewritten) + mixer.rewritten * rate)
        read = []
        for head in range(heads):
            # S (B, value, key), as the paper has it.
            at = slice(head * x.shape[1] // heads, (head + 1) * x.shape[1] // heads)
            kappa = removal[:, at] / (removal[:, at].square().sum(1, keepdim=True) + 1e-12).sqrt()
            S = cache.get((index, head), x.new_zeros(len(x), kappa.shape[1], kappa.shape[1]))
            replaced = (S @ kappa.unsqueeze(2)) @ (rate[:, at] * kappa).unsqueeze(1)
            written = v[:, at].unsqueeze(2) @ k[:, at].unsqueeze(1)
            S = S * log_w[:, at].exp().unsqueeze(1) - replaced + written
            cache[index, head] = S
            y = standardised((S @ r[:, at].unsqueeze(2)).squeeze(2), 64e-5)
            y = y * mixer.norm_weight[at] + mixer.norm_bias[at]
            bonus = (r[:, at] * mixer.bonus[at] * k[:, at]).sum(1, keepdim=True)
            read.append(y + bonus * v[:, at])
        x = x + (gate * torch.cat(read, dim=1)) @ mixer.output.weight.T
        mixer, new = channel.mixer, layer_normed(x, channel.norm)
        old = cache.get((index + 1, "token"), torch.zeros_like(x))
        cache[index + 1, "token"] = new
        hidden = ((new + (old - new) * mixer.mix) @ mixer.key.weight.T).clamp(min=0).square()
        x = x + hidden @ mixer.value.weight.T
    return layer_normed(x, body.norm)


def convolved(part: Any, x: Tensor, cache: Cache, key: Any) -> Tensor:
    """One token through a causal convolution of each channel, and Swish."""
    taps = part.weight.shape[1]
    window = cache.get(key, x.new_zeros(taps, *x.shape))
    window = torch.cat([window[1:], x.unsqueeze(0)])
    cache[key] = window
    return silu((window * part.weight.T.unsqueeze(1)).sum(0) + part.bias)


def by_blocks(part: Any, x: Tensor) -> Tensor:
    """A block-diagonal product, with the whole matrix."""
    return x @ torch.block_diag(*part.weight)


def mlstm_token(mixer: Any, x: Tensor, cache: Cache, layer: int) -> Tensor:
    """Beck et al. 2024, figure 11 and equations 19 to 27, without a stabiliser."""
    u, z = (x @ mixer.project_up.weight.T).chunk(2, dim=1)
    c = convolved(mixer.convolution, u, cache, (layer, "window"))
    q, k, v = by_blocks(mixer.q, c), by_blocks(mixer.k, c), by_blocks(mixer.v, u)
    gates = torch.cat([q, k, v], dim=1) @ mixer.gates.weight.T + mixer.gates.bias
    heads, read = mixer.heads, []
    for head in range(heads):
        at = slice(head * u.shape[1] // heads, (head + 1) * u.shape[1] // heads)
        i, f = gates[:, head].exp(), gates[:, heads + head].sigmoid()
        key = k[:, at] / math.sqrt(k[:, at].shape[1])
        C = cache.get((layer, head, "C"), x.new_zeros(len(x), key.shape[1], key.shape[1]))
        n = cache.get((layer, head, "n"), torch.zeros_like(key))
        C = f[:, None, None] * C + i[:, None, None] * v[:, at].unsqueeze(2) * key.unsqueeze(1)
        n = f[:, None] * n + i[:, None] * key
        cache[layer, head, "C"], cache[layer, head, "n"] = C, n
        floor = (n * q[:, at]).sum(1, keepdim=True).abs().clamp(min=1.0)
        read.append(standardised((C @ q[:, at].unsqueeze(2)).squeeze(2) / floor, 1e-5))
    y = torch.cat(read, dim=1) * mixer.norm_weight + mixer.skip * c
    return (y * silu(z)) @ mixer.project_down.weight.T


def slstm_token(mixer: Any, x: Tensor, cache: Cache, layer: int) -> Tensor:
    """Beck et al. 2024, figure 10 and equations 8 to 14, without a stabiliser."""
    conv = convolved(mixer.convolution, x, cache, (layer, "window"))
    sources = (by_blocks(mixer.z, x), by_blocks(mixer.i, conv))
    sources = (*sources, by_blocks(mixer.f, conv), by_blocks(mixer.o, x))
    heads, read = len(mixer.bias), []
    for head in range(heads):
        size = x.shape[1] // heads
        at = slice(head * size, (head + 1) * size)
        nothing = x.new_zeros(len(x), size)
        h, c, n = (cache.get((layer, head, name), nothing) for name in "hcn")
        recurrent = (h @ mixer.recurrent[head]).chunk(4, dim=1)
        z, i, f, o = (
            source[:, at] + mixer.bias[head, gate] + recurrent[gate]
            for gate, source in enumerate(sources)
        )
        c = f.sigmoid() * c + i.exp() * z.tanh()
        n = f.sigmoid() * n + i.exp()
        h = o.sigmoid() * c / n
        cache[layer, head, "h"], cache[layer, head, "c"], cache[layer, head, "n"] = h, c, n
        read.append(standardised(h, 1e-5))
    return torch.cat(read, dim=1) * mixer.norm_weight


def xlstm_token(body: Any, x: Tensor, cache: Cache) -> Tensor:
    """One token x (B, D) through the blocks in their pre-norm residual backbone."""
    for layer, block in enumerate(body.blocks):
        mixer, normed = block.mixer, layer_normed(x, block.norm)
        if hasattr(mixer, "gates"):
            x = x + mlstm_token(mixer, normed, cache, layer)
        elif hasattr(mixer, "recurrent"):
            x = x + slstm_token(mixer, normed, cache, layer)
        else:
            gate, value = (normed @ mixer.project_up.weight.T).chunk(2, dim=1)
            x = x + (gelu(gate) * value) @ mixer.project_down.weight.T
    return layer_normed(x, body.norm)


MODELS: list[tuple[str, Step, dict[str, Any]]] = [
    ("rwkv7", rwkv7_token, {"layers": 3, "heads": 4, "rank": 5}),
    ("rwkv7", rwkv7_token, {"layers": 2, "heads": 2}),
    ("xlstm", xlstm_token, {"layers": 4, "heads": 4}),
    ("xlstm", xlstm_token, {"layers": 2, "slstm_every": 0, "heads": 2, "expand": 1, "taps": 3}),
]


@pytest.mark.parametrize(
    ("name", "step", "options"), MODELS, ids=lambda value: getattr(value, "__name__", str(value))
)
def test_a_model_has_the_outputs_and_all_gradients_of_its_equations(
    name: str, step: Step, options: dict[str, Any]
) -> None:
    body, x = perturbed(name, **options), normal(2, LENGTH, 16).requires_grad_()
    cotangent, cache = normal(2, LENGTH, 16, seed=1), {}
    by_token = torch.stack([step(body, x_t, cache) for x_t in x.unbind(1)], dim=1)
    inputs = [x, *body.parameters()]
    results = []
    for y in (body(x)[0], by_token):
        results.append([y, *torch.autograd.grad((y * cotangent).sum(), inputs)])
    for actual, expected in zip(*results, strict=True):
        assert expected.abs().max() > 0
        close_to_largest(actual, expected, EXACT)


@pytest.mark.parametrize(
    ("name", "step", "options"), MODELS, ids=lambda value: getattr(value, "__name__", str(value))
)
@torch.no_grad()
def test_steps_after_a_prefill_are_those_of_the_equations_cache(
    name: str, step: Step, options: dict[str, Any]
) -> None:
    body, x, cache = perturbed(name, **options), normal(2, LENGTH, 16), {}
    y, state = body(x[:, :PREFILL])
    for t in range(PREFILL):
        close_to_largest(y[:, t], step(body, x[:, t], cache), EXACT)
    for t in range(PREFILL, LENGTH):
        y_t, state = body.step(x[:, t], state)
        close_to_largest(y_t, step(body, x[:, t], cache), EXACT)
