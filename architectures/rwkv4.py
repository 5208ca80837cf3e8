"""RWKV-4: Peng et al. 2023, https://arxiv.org/abs/2305.13048, section 3.1.

    time mixing:     r, k, v = Linear(mu x_t + (1 - mu) x_{t-1}), each with its mu    (11 to 13)
                     y = Linear(sigmoid(r) wkv(k, v))                                 (16 and 17)
    channel mixing:  r, k = Linear(mu x_t + (1 - mu) x_{t-1})                         (14 and 15)
                     y = sigmoid(r) Linear(relu(k)^2)                                 (18)

Initialisation, by the paper's appendix: mu, the decay and the bonus depend on channel and layer.
Matrices are orthogonal, as in the authors' code (BlinkDL/RWKV-LM, RWKV-v4/src/model.py).
Departure: there time mixing's k, r and y and channel mixing's r and y begin at 0, which would hide
a layer from the others.
The authors also normalise the embedding once; here embeddings belong to the harness.

B batch, T time, D width.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import relu

from architectures.body import Body, ParamGroup, State
from architectures.kernels.wkv4 import wkv4, wkv4_flops_per_token
from architectures.layers.checks import check_at_least
from architectures.layers.residual import Residual
from architectures.layers.token_shift import token_shift

# Times the run's learning rate, as in the authors' code.
DECAY_RATE_SCALE, BONUS_RATE_SCALE = 2.0, 3.0


class TimeMixing(Body):
    """State: the token before (B, D), and a, b and p of the wkv, (B, D) each."""

    def __init__(self, width: int, *, layer: int, layers: int) -> None:
        super().__init__(width)
        depth = layer / max(layers - 1, 1)
        channel = torch.arange(width) / width
        first = 1 - layer / layers
        # Of key, value and receptance.
        mix = [channel**first, channel**first + 0.3 * depth, channel ** (0.5 * first)]
        self.mix = nn.Parameter(torch.stack(mix))  # (3, D)
        along = torch.arange(width) / max(width - 1, 1)
        self.log_decay_rate = nn.Parameter(-5 + 8 * along ** (0.7 + 1.3 * depth))
        zigzag = 0.5 * ((torch.arange(width) + 1) % 3 - 1)
        self.bonus = nn.Parameter(zigzag + math.log(0.3))
        self.key = orthogonal_linear(width, width)
        self.value = orthogonal_linear(width, width)
        self.receptance = orthogonal_linear(width, width)
        self.output = orthogonal_linear(width, width)

    def forward(
        self, x: Tensor, state: State = None, *, lengths: Tensor | None = None
    ) -> tuple[Tensor, State]:
        """Map x (B, T, D) to y (B, T, D)."""
        self.check_call(x, state, lengths)
        last, *wkv_state = (None, None) if state is None else state
        before, last = token_shift(x, last, lengths)  # (B, T, D)
        mixed = [torch.lerp(before, x, mix.to(x.dtype)) for mix in self.mix]
        # At least float32, whatever autocast or the parameters say: a state adds up all of T.
        dtype = torch.promote_types(self.log_decay_rate.dtype, torch.float32)
        k, v = self.key(mixed[0]).to(dtype), self.value(mixed[1]).to(dtype)
        receptance = self.receptance(mixed[2]).sigmoid()
        y, wkv_state = wkv4(
            self.log_decay_rate.to(dtype).exp(),
            self.bonus.to(dtype),
            k,
            v,
            None if state is None else tuple(wkv_state),
            lengths,
        )
        return self.output(receptance * y.to(receptance.dtype)), (last, *wkv_state)

    def flops_per_token(self, length: int) -> float:
        """Four projections and the wkv."""
        return 8.0 * self.width**2 + wkv4_flops_per_token(self.width)

    def param_groups(self) -> list[ParamGroup]:
        """Decay and bonus learn faster; they and the mixing weights do not decay."""
        return [
            ParamGroup(
                parameters=(self.log_decay_rate,),
                weight_decay=0.0,
                learning_rate_scale=DECAY_RATE_SCALE,
            ),
            ParamGroup(
                parameters=(self.bonus,), weight_decay=0.0, learning_rate_scale=BONUS_RATE_SCALE
            ),
            ParamGroup(parameters=(self.mix,), weight_decay=0.0),
        ]


class ChannelMixing(Body):
    """State: the token before (B, D)."""

    def __init__(self, width: int, *, hidden: int, layer: int, layers: int) -> None:
        super().__init__(width)
        channel = torch.arange(width) / width
        # Of key and receptance.
        self.mix = nn.Parameter((channel ** (1 - layer / layers)).repeat(2, 1))  # (2, D)
        self.key = orthogonal_linear(width, hidden)
        self.receptance = orthogonal_linear(width, width)
        self.value = orthogonal_linear(hidden, width)

    def forward(
        self, x: Tensor, state: State = None, *, lengths: Tensor | None = None
    ) -> tuple[Tensor, State]:
        """Map x (B, T, D) to y (B, T, D)."""
        self.check_call(x, state, lengths)
        before, last = token_shift(x, state, lengths)  # (B, T, D)
        mixed = [torch.lerp(before, x, mix.to(x.dtype)) for mix in self.mix]
        hidden = relu(self.key(mixed[0])).square()
        return self.receptance(mixed[1]).sigmoid() * self.value(hidden), last

    def flops_per_token(self, length: int) -> float:
        """Three projections."""
        return 2.0 * self.width**2 + 4.0 * self.key.weight.numel()

    def param_groups(self) -> list[ParamGroup]:
        """The mixing weights do not decay."""
        return [ParamGroup(parameters=(self.mix,), weight_decay=0.0)]


class Rwkv4(Residual):
    """RWKV-4: an average of values under exponential decay for each channel, with token shift.

    State: per layer the tokens before, (B, D) for each mixing, and the wkv's 3 (B, D).
    """

    def __init__(
        self, width: int, *, layers: int = 2, mlp_ratio: float = 4.0, dropout: float = 0.0
    ) -> None:
        check_at_least("layers", layers, 1)
        check_at_least("width", width, 1)
        check_at_least("mlp_ratio", mlp_ratio, 0)
        hidden = round(mlp_ratio * width)
        mixers: list[Body] = []
        for layer in range(layers):
            mixers.append(TimeMixing(width, layer=layer, layers=layers))
            if hidden:
                mixers.append(ChannelMixing(width, hidden=hidden, layer=layer, layers=layers))
        super().__init__(width, mixers, dropout=dropout)


def orthogonal_linear(n_inputs: int, n_outputs: int) -> nn.Linear:
    """A linear map without bias, orthogonal, larger if it expands: as the authors' code has it."""
    linear = nn.Linear(n_inputs, n_outputs, bias=False)
    nn.init.orthogonal_(linear.weight, gain=math.sqrt(max(n_outputs / n_inputs, 1.0)))
    return linear
