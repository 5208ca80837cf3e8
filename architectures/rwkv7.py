"""RWKV-7: Peng et al. 2025, https://arxiv.org/abs/2503.14456, section 4.

    each projection reads its own x = x_t + mu (x_{t-1} - x_t)
    r, k, v = Linear(x);  low_rank(x) = f(x A) B + bias
    a = sigmoid(low_rank(x))               (the rate at which a token rewrites)
    w = exp(-e^(-1/2) sigmoid(low_rank(x; tanh)))              (decay)
    c = k xi / |k xi| for each head        (the key that is erased)
    k = k (1 + alpha (a - 1))              (the key that is written)
    v = v + sigmoid(low_rank(x)) (v of the first layer - v)    (in later layers)
    S_t = diag(w_t) S_{t-1} - (a_t c_t) (c_t^T S_{t-1}) + k_t v_t^T      (S transposed)
    y = Linear(low_rank(x; sigmoid) (norm(r S) + (r . rho k) v))
    channel mixing: y = Linear(relu(Linear(x))^2)

Initial values: the paper leaves them to the authors' code, BlinkDL/RWKV-LM, RWKV-v7/train_temp/
src/model.py; here those of the paper's time (w, a, xi, alpha and rho have since been changed a
little there). Its modules draw r, k and v uniformly for whoever copies them; what is trained begins
orthogonal (`generate_init_weight`), as here. Ranks: the formulas there, which give the paper's
table 16 but for the gate at D = 1024 (128 there, 160 here). Weight decay for the matrices of the
linear maps alone, and twice the learning rate for w's bias: `configure_optimizers`.
Departure: output projections and channel mixing's value begin at 0 there, which would hide a layer
from the others; here they begin as torch's linear maps.

B batch, T time, D width, H heads, N = D/H.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import layer_norm, relu

from architectures.body import Body, ParamGroup, State, real_positions
from architectures.kernels.delta_rule import (
    delta_rule_kernel,
    general_delta_rule,
    general_delta_rule_flops_per_token,
)
from architectures.layers.checks import check_at_least, check_divides
from architectures.layers.residual import Block, Residual
from architectures.layers.token_shift import token_shift

DECAY_RATE_SCALE = 2.0  # times the run's learning rate, as in the authors' code
LOG_DECAY_SCALE = -math.exp(-0.5)
NORM_EPSILON = 64e-5
LENGTH_EPSILON = 1e-12
# Of r, k, v, decay, rate and gate: mu is 1 - (i / D)^(this (1 - layer / layers)).
MIX_EXPONENTS = (0.2, 0.7, 0.7, 0.9, 0.9, 0.2)
LOW_RANK_GAIN = 0.1
KEY_GAIN = 0.1
# A rank is factor D^power, as the nearest multiple of 32 that is not 0.
RANK_LAWS = {"decay": (1.8, 0.5), "rate": (1.8, 0.5), "share": (1.3, 0.5), "gate": (0.6, 0.8)}
RANK_MULTIPLE = 32


class LowRank(nn.Module):
    """f(x A) B + bias, at the beginning the bias and f(0) B."""

    def __init__(self, width: int, rank: int, bias: Tensor | None = None) -> None:
        super().__init__()
        self.down = nn.Parameter(torch.zeros(width, rank))
        gain = LOW_RANK_GAIN * math.sqrt(max(rank / width, 1.0))
        self.up = nn.Parameter(nn.init.orthogonal_(torch.empty(rank, width), gain=gain))
        self.bias = None if bias is None else nn.Parameter(bias)

    def forward(self, x: Tensor, activation: Any = None) -> Tensor:
        """Map x (B, T, D) to (B, T, D)."""
        hidden = x @ self.down
        y = (hidden if activation is None else activation(hidden)) @ self.up
        return y if self.bias is None else y + self.bias


class TimeMixing(Body):
    """State: the token before (B, D), and S (B, H, N, N)."""

    def __init__(
        self, width: int, *, heads: int, rank: int | None, layer: int, layers: int
    ) -> None:
        super().__init__(width)
        self.heads = heads
        depth, remaining = layer / max(layers - 1, 1), 1 - layer / layers
        channel = torch.arange(width) / width
        along = torch.arange(width) / max(width - 1, 1)
        mix = [1 - channel ** (exponent * remaining) for exponent in MIX_EXPONENTS]
        self.mix = nn.Parameter(torch.stack(mix))  # (6, D)
        ranks = {name: rank or suggested_rank(name, width) for name in RANK_LAWS}
        self.decay = LowRank(width, ranks["decay"], -6.5 + 5 * along ** (0.85 + depth**0.5))
        self.rate = LowRank(width, ranks["rate"], torch.zeros(width))
        self.gate = LowRank(width, ranks["gate"])
        self.share = LowRank(width, ranks["share"], torch.ones(width)) if layer else None
        self.erased = nn.Parameter(torch.full((width,), 0.85))  # xi
        self.rewritten = nn.Parameter(torch.ones(width))  # alpha
        self.bonus = nn.Parameter(torch.zeros(width))  # rho
        self.norm_weight = nn.Parameter(torch.full((width,), ((layer + 1) / layers) ** 0.7))
        self.norm_bias = nn.Parameter(torch.zeros(width))
        self.receptance = orthogonal_linear(width, width)
        self.key = orthogonal_linear(width, width, gain=KEY_GAIN)
        self.value = orthogonal_linear(width, width)
        self.output = nn.Linear(width, width, bias=False)

    def forward(
        self, x: Tensor, state: State = None, *, lengths: Tensor | None = None
    ) -> tuple[Tensor, State]:
        """Map x (B, T, D) to y (B, T, D)."""
        y, state, _ = self.mix_time(x, state, lengths, None)
        return y, state

    def mix_time(
        self, x: Tensor, state: State, lengths: Tensor | None, first_value: Tensor | None
    ) -> tuple[Tensor, State, Tensor]:
        """`forward`, with the first layer's values (B, T, D) given or, in the first, returned."""
        self.check_call(x, state, lengths)
        last, memory = (None, None) if state is None else state
        before, last = token_shift(x, last, lengths)  # (B, T, D)
        of_r, of_k, of_v, of_decay, of_rate, of_gate = (
            torch.lerp(x, before, mix.to(x.dtype)) for mix in self.mix
        )
        # At least float32, whatever autocast or the parameters say: a state adds up all of T.
        dtype = torch.promote_types(self.mix.dtype, torch.float32)
        r, k, v = self.receptance(of_r), self.key(of_k), self.value(of_v)  # each (B, T, D)
        if first_value is None:
            first_value = v
        if self.share is not None:
            v = v + self.share(of_v).sigmoid() * (first_value - v)
        r, k, v = r.to(dtype), k.to(dtype), v.to(dtype)
        log_decay = LOG_DECAY_SCALE * self.decay(of_decay, torch.tanh).to(dtype).sigmoid()
        rate = self.rate(of_rate).to(dtype).sigmoid()
        erased = self._by_head(k * self.erased)  # (B, T, H, N)
        erased = erased * (erased.square().sum(3, keepdim=True) + LENGTH_EPSILON).rsqrt()
        k = self._by_head(k * (1 + self.rewritten * (rate - 1)))
        r, v, rate, log_decay = (self._by_head(part) for part in (r, v, rate, log_decay))
        if lengths is not None:
            # There nothing decays, is erased or written.
            padding = ~real_positions(lengths, x.shape[1])[:, :, None, None]
            k, rate, log_decay = (p.masked_fill(padding, 0.0) for p in (k, rate, log_decay))
        y, memory = general_delta_rule(r, k, v, -erased, rate * erased, log_decay, memory)
        y = layer_norm(y, y.shape[3:], eps=NORM_EPSILON).flatten(2)  # (B, T, D)
        y = torch.addcmul(self.norm_bias, y, self.norm_weight)
        bonus = (r * k * self._by_head(self.bonus)).sum(3, keepdim=True) * v  # (B, T, H, N)
        gated = self.gate(of_gate, torch.sigmoid) * (y + bonus.flatten(2)).to(x.dtype)
        return self.output(gated), (last, memory), first_value

    def _by_head(self, x: Tensor) -> Tensor:
        """(..., D) to (..., H, N)."""
        return x.view(*x.shape[:-1], self.heads, -1)

    @property
    def kernel(self) -> str:
        """That of the delta rule."""
        dtype = torch.promote_types(self.mix.dtype, torch.float32)
        return delta_rule_kernel(dtype, self.mix.device)

    def flops_per_token(self, length: int) -> float:
        """Four projections, the low-rank maps and the delta rule."""
        maps = [module for module in self.children() if isinstance(module, LowRank)]
        products = 8.0 * self.width**2 + sum(4.0 * low_rank.up.numel() for low_rank in maps)
        head_width = self.width // self.heads
        rule = general_delta_rule_flops_per_token(length, head_width, head_width, self.heads)
        return products + rule

    def param_groups(self) -> list[ParamGroup]:
        """All but the four projections: no decay, and the bias of w learns faster."""
        projections = {"receptance.weight", "key.weight", "value.weight", "output.weight"}
        own = {name: p for name, p in self.named_parameters() if name not in projections}
        decay = own.pop("decay.bias")
        return [
            ParamGroup(parameters=(decay,), weight_decay=0.0, learning_rate_scale=DECAY_RATE_SCALE),
            ParamGroup(parameters=tuple(own.values()), weight_decay=0.0),
        ]


class ChannelMixing(Body):
    """State: the token before (B, D)."""

    def __init__(self, width: int, *, hidden: int, layer: int, layers: int) -> None:
        super().__init__(width)
        channel = torch.arange(width) / width
        self.mix = nn.Parameter(1 - channel ** ((1 - layer / layers) ** 4))  # (D,)
        self.key = orthogonal_linear(width, hidden)
        self.value = nn.Linear(hidden, width, bias=False)

    def forward(
        self, x: Tensor, state: State = None, *, lengths: Tensor | None = None
    ) -> tuple[Tensor, State]:
        """Map x (B, T, D) to y (B, T, D)."""
        self.check_call(x, state, lengths)
        before, last = token_shift(x, state, lengths)  # (B, T, D)
        mixed = torch.lerp(x, before, self.mix.to(x.dtype))
        return self.value(relu(self.key(mixed)).square()), last

    @property
    def kernel(self) -> str:
        """Torch's own products: there is nothing else in it."""
        return "aten"

    def flops_per_token(self, length: int) -> float:
        """Two projections."""
        return 4.0 * self.key.weight.numel()

    def param_groups(self) -> list[ParamGroup]:
        """The mixing weights do not decay."""
        return [ParamGroup(parameters=(self.mix,), weight_decay=0.0)]


class Rwkv7(Residual):
    """RWKV-7: a matrix state with a decay for each channel and a delta rule, and token shift.

    State: per layer the tokens before, (B, D) for each mixing, and S (B, H, N, N).
    """

    def __init__(
        self,
        width: int,
        *,
        layers: int = 2,
        heads: int = 4,
        rank: int | None = None,
        mlp_ratio: float = 4.0,
        dropout: float = 0.0,
    ) -> None:
        """`rank` is that of all low-rank maps; None: for each the authors' formula."""
        check_at_least("width", width, 1)
        check_at_least("layers", layers, 1)
        check_at_least("heads", heads, 1)
        if rank is not None:
            check_at_least("rank", rank, 1)
        check_at_least("mlp_ratio", mlp_ratio, 0)
        check_divides("heads =", heads, width)
        hidden = round(mlp_ratio * width)
        mixers: list[Body] = []
        for layer in range(layers):
            mixers.append(TimeMixing(width, heads=heads, rank=rank, layer=layer, layers=layers))
            if hidden:
                mixers.append(ChannelMixing(width, hidden=hidden, layer=layer, layers=layers))
        super().__init__(width, mixers, dropout=dropout)

    @classmethod
    def width_multiple(cls, **options: Any) -> int:
        """As many channels for each head as for the others."""
        return int(options.get("heads", 4))

    def _through_blocks(
        self, x: Tensor, state: State, lengths: Tensor | None, *, one_token: bool
    ) -> tuple[Tensor, State]:
        """The backbone's blocks, with the values of the first given to the later ones."""
        states = self.block_states(state)
        x = x.unsqueeze(1) if one_token else x
        first_value: Tensor | None = None
        new_states = []
        for block, block_state in zip(self.blocks, states, strict=True):
            if isinstance(block, Block) and isinstance(block.mixer, TimeMixing):
                mixed, new_state, first_value = block.mixer.mix_time(
                    block.norm(x), block_state, lengths, first_value
                )
                x = x + block.dropout(mixed)
            else:
                x, new_state = block(x, block_state, lengths)
            new_states.append(new_state)
        x = x.squeeze(1) if one_token else x
        return self.norm(x), tuple(new_states)


def suggested_rank(name: str, width: int) -> int:
    """The authors' rank of the low-rank map of that name at this width."""
    factor, power = RANK_LAWS[name]
    multiples = round(factor * math.pow(width, power) / RANK_MULTIPLE)
    return RANK_MULTIPLE * max(multiples, 1)


def orthogonal_linear(n_inputs: int, n_outputs: int, *, gain: float = 1.0) -> nn.Linear:
    """A linear map without bias, orthogonal but for the gain."""
    linear = nn.Linear(n_inputs, n_outputs, bias=False)
    nn.init.orthogonal_(linear.weight, gain=gain)
    return linear
