"""xLSTM: Beck et al. 2024, https://arxiv.org/abs/2405.04517, blocks of mLSTM and of sLSTM.

mLSTM block (figure 11), with blocks of 4 channels in q, k and v:

    u, z = project_up(x);  c = silu(causal_convolution(u))
    q, k, v = Blocks(c), Blocks(c) / sqrt(N), Blocks(u);  log i, logit f = Linear(q, k, v)
    y = project_down((norm(mlstm(q, k, v, i, f)) + skip c) silu(z))

sLSTM block (figure 10), followed by a gated MLP, linear(gelu(gate) value), in a block of its own:

    c = silu(causal_convolution(x));  gates z, o = Blocks(x);  i, f = Blocks(c)
    y = norm(slstm(z, i, f, o))

Initialisation: the biases of mLSTM's f go from 3 to 6 and those of its i are drawn with deviation
0.1 (the paper's table 2). All else as the authors' code, NX-AI/xlstm (2.0): weights of mLSTM's
gates and R are 0; matrices are normal, of variance 2 / (5 D) that read the input, u or c, and of
deviation 2 / (layers sqrt(D)) that write; biases of sLSTM's f fall from 5 to -7 in each head, in
later layers more slowly (blocks/slstm/cell.py).
Departure: norms have a bias, which theirs do not; the MLP's width is not rounded up to 64.

B batch, T time, D width, E inner width (expand D), H heads, N = E/H, K taps of the convolution.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, layer_norm, logsigmoid, silu

from architectures.body import Body, State, real_positions
from architectures.kernels.causal_convolution import causal_convolution
from architectures.kernels.mlstm import mlstm, mlstm_flops_per_token
from architectures.kernels.slstm import slstm, slstm_flops_per_token
from architectures.layers.checks import check_at_least, check_divides
from architectures.layers.residual import Residual

CHANNELS_PER_BLOCK = 4  # of q, k and v
FORGET_BIAS_MIN, FORGET_BIAS_MAX = 3.0, 6.0
INPUT_BIAS_DEVIATION = 0.1
# sLSTM's forget bias at a fraction x of a head's channels: first - fall x^(low + rise depth).
SLSTM_BIAS_FIRST, SLSTM_BIAS_FALL = 5.0, 12.0
SLSTM_BIAS_POWER_LOW, SLSTM_BIAS_POWER_RISE = 0.3, 1.3
NORM_EPSILON = 1e-5


class BlockLinear(nn.Module):
    """A block-diagonal linear map, from each of G groups of channels to as many or more."""

    def __init__(self, groups: int, n_inputs: int, n_outputs: int, *, deviation: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(deviation * torch.randn(groups, n_inputs, n_outputs))

    def forward(self, x: Tensor) -> Tensor:
        """Map x (B, T, G inputs) to (B, T, G outputs)."""
        groups, n_inputs, _ = self.weight.shape
        rows = x.reshape(-1, groups, n_inputs).transpose(0, 1)  # (G, B T, inputs)
        y: Tensor = (rows @ self.weight).transpose(0, 1)
        return y.reshape(*x.shape[:-1], -1)


class ShortConvolution(nn.Module):
    """A causal convolution of each channel, and silu."""

    def __init__(self, width: int, taps: int) -> None:
        super().__init__()
        bound = 1 / math.sqrt(taps)
        self.weight = nn.Parameter(torch.empty(width, taps).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(width).uniform_(-bound, bound))

    def forward(
        self, x: Tensor, state: Tensor | None, lengths: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Map x (B, T, D) to (B, T, D)."""
        y, state = causal_convolution(x, self.weight, self.bias, state, lengths)
        return silu(y), state


class MlstmMixer(Body):
    """State: the convolution's last inputs (B, K - 1, E), the memory (B, H, N, N + 1), m (B, H)."""

    def __init__(self, width: int, *, heads: int, expand: int, taps: int, layers: int = 1) -> None:
        super().__init__(width)
        inner = expand * width
        self.heads = heads
        self.project_up = normal_linear(width, 2 * inner, reading_deviation(width))
        self.convolution = ShortConvolution(inner, taps)
        blocks, size = inner // CHANNELS_PER_BLOCK, CHANNELS_PER_BLOCK
        self.q, self.k, self.v = (
            BlockLinear(blocks, size, size, deviation=reading_deviation(width)) for _ in range(3)
        )
        self.gates = nn.Linear(3 * inner, 2 * heads)
        nn.init.zeros_(self.gates.weight)
        forget_bias = torch.linspace(FORGET_BIAS_MIN, FORGET_BIAS_MAX, heads)
        with torch.no_grad():
            self.gates.bias[:heads].normal_(std=INPUT_BIAS_DEVIATION)
            self.gates.bias[heads:].copy_(forget_bias)
        self.norm_weight = nn.Parameter(torch.ones(inner))
        self.skip = nn.Parameter(torch.ones(inner))
        self.project_down = normal_linear(inner, width, writing_deviation(width, layers))

    def forward(
        self, x: Tensor, state: State = None, *, lengths: Tensor | None = None
    ) -> tuple[Tensor, State]:
        """Map x (B, T, D) to y (B, T, D)."""
        self.check_call(x, state, lengths)
        conv_state, *memory = (None,) if state is None else state
        u, z = self.project_up(x).chunk(2, dim=2)  # each (B, T, E)
        c, conv_state = self.convolution(u, conv_state, lengths)
        q, k, v = self.q(c), self.k(c), self.v(u)  # each (B, T, E)
        # At least float32, whatever autocast or the parameters say: a state adds up all of T.
        dtype = torch.promote_types(self.gates.weight.dtype, torch.float32)
        gates = self.gates(torch.cat([q, k, v], dim=2)).to(dtype)
        log_input, forget = gates.chunk(2, dim=2)  # each (B, T, H)
        log_forget = logsigmoid(forget)
        if lengths is not None:
            padding = ~real_positions(lengths, x.shape[1]).unsqueeze(2)
            log_input = log_input.masked_fill(padding, -torch.inf)
            log_forget = log_forget.masked_fill(padding, 0.0)
        q, k, v = (part.to(dtype).unflatten(2, (self.heads, -1)) for part in (q, k, v))
        k = k / math.sqrt(k.shape[3])
        before = None if state is None else (memory[0], memory[1])
        y, after = mlstm(q, k, v, log_input, log_forget, before)  # y (B, T, H, N)
        y = layer_norm(y, y.shape[3:], eps=NORM_EPSILON).flatten(2) * self.norm_weight
        return self.project_down((y.to(z.dtype) + self.skip * c) * silu(z)), (conv_state, *after)

    def flops_per_token(self, length: int) -> float:
        """Projections, blocks, gates, the convolution (2 K E) and the memory."""
        products = (self.project_up, self.project_down, self.q, self.k, self.v, self.gates)
        weights = sum(product.weight.numel() for product in products)
        inner = len(self.skip)
        memory = mlstm_flops_per_token(length, inner // self.heads, inner // self.heads, self.heads)
        return 2.0 * (weights + self.convolution.weight.numel()) + memory


class SlstmMixer(Body):
    """State: the convolution's last inputs (B, K - 1, D), and h, c, n and m, (B, H, D/H) each."""

    def __init__(
        self, width: int, *, heads: int, taps: int, layer: int = 0, layers: int = 1
    ) -> None:
        super().__init__(width)
        size = width // heads
        self.convolution = ShortConvolution(width, taps)
        self.z, self.i, self.f, self.o = (
            BlockLinear(heads, size, size, deviation=reading_deviation(width)) for _ in range(4)
        )
        self.bias = nn.Parameter(torch.zeros(heads, 4, size))
        depth = layer / max(layers - 1, 1)
        along = torch.arange(size) / max(size - 1, 1)
        fallen = along ** (SLSTM_BIAS_POWER_LOW + SLSTM_BIAS_POWER_RISE * depth)
        with torch.no_grad():
            self.bias[:, 2] = SLSTM_BIAS_FIRST - SLSTM_BIAS_FALL * fallen
        self.recurrent = nn.Parameter(torch.zeros(heads, size, 4 * size))
        self.norm_weight = nn.Parameter(torch.ones(width))

    def forward(
        self, x: Tensor, state: State = None, *, lengths: Tensor | None = None
    ) -> tuple[Tensor, State]:
        """Map x (B, T, D) to y (B, T, D)."""
        self.check_call(x, state, lengths)
        conv_state, *cell = (None,) if state is None else state
        c, conv_state = self.convolution(x, conv_state, lengths)
        dtype = torch.promote_types(self.bias.dtype, torch.float32)
        parts = [self.z(x), self.i(c), self.f(c), self.o(x)]  # each (B, T, D)
        heads = len(self.bias)
        gates = torch.stack([part.to(dtype).unflatten(2, (heads, -1)) for part in parts], dim=3)
        gates = (gates + self.bias).flatten(3)  # (B, T, H, 4 D/H)
        before = None if state is None else (cell[0], cell[1], cell[2], cell[3])
        y, after = slstm(gates, self.recurrent.to(dtype), before, lengths)  # y (B, T, H, D/H)
        y = layer_norm(y, y.shape[3:], eps=NORM_EPSILON).flatten(2) * self.norm_weight
        return y.to(c.dtype), (conv_state, *after)

    def flops_per_token(self, length: int) -> float:
        """Blocks, the convolution (2 K D) and the cell."""
        heads, size, _ = self.recurrent.shape
        weights = 4 * heads * size**2 + self.convolution.weight.numel()
        return 2.0 * weights + slstm_flops_per_token(size, heads)


class GatedMlp(Body):
    """Linear(gelu(gate) value) on each token alone. No state."""

    def __init__(self, width: int, *, hidden: int, layers: int = 1) -> None:
        super().__init__(width)
        self.project_up = normal_linear(width, 2 * hidden, reading_deviation(width))
        self.project_down = normal_linear(hidden, width, writing_deviation(width, layers))

    def forward(
        self, x: Tensor, state: State = None, *, lengths: Tensor | None = None
    ) -> tuple[Tensor, State]:
        """Map x (B, T, D) to y (B, T, D)."""
        self.check_call(x, state, lengths)
        gate, value = self.project_up(x).chunk(2, dim=2)
        return self.project_down(gelu(gate) * value), None

    def flops_per_token(self, length: int) -> float:
        """Three products of D and hidden."""
        return 6.0 * self.project_down.weight.numel()


class Xlstm(Residual):
    """xLSTM: mLSTM blocks with a matrix memory, and sLSTM blocks whose gates read their output.

    State: per layer the convolution's last inputs, and the memory with its stabiliser.
    """

    def __init__(
        self,
        width: int,
        *,
        layers: int = 2,
        slstm_every: int = 2,
        heads: int = 4,
        expand: int = 2,
        taps: int = 4,
        mlp_ratio: float = 4 / 3,
        dropout: float = 0.0,
    ) -> None:
        """Layers slstm_every, 2 slstm_every and so on are sLSTM, with a gated MLP; 0: none is."""
        check_at_least("width", width, 1)
        check_at_least("layers", layers, 1)
        check_at_least("slstm_every", slstm_every, 0)
        check_at_least("heads", heads, 1)
        check_at_least("expand", expand, 1)
        check_at_least("taps", taps, 1)
        check_at_least("mlp_ratio", mlp_ratio, 0)
        check_divides("heads and blocks:", self.width_multiple(heads=heads, expand=expand), width)
        hidden = round(mlp_ratio * width)
        mixers: list[Body] = []
        for layer in range(1, layers + 1):
            if not slstm_every or layer % slstm_every:
                mixers.append(
                    MlstmMixer(width, heads=heads, expand=expand, taps=taps, layers=layers)
                )
                continue
            mixers.append(SlstmMixer(width, heads=heads, taps=taps, layer=layer - 1, layers=layers))
            if hidden:
                mixers.append(GatedMlp(width, hidden=hidden, layers=layers))
        super().__init__(width, mixers, dropout=dropout)

    @classmethod
    def width_multiple(cls, **options: Any) -> int:
        """As many channels for each head as for the others, and whole blocks of q, k and v."""
        heads, expand = int(options.get("heads", 4)), int(options.get("expand", 2))
        return math.lcm(heads, CHANNELS_PER_BLOCK // math.gcd(CHANNELS_PER_BLOCK, expand))


def reading_deviation(width: int) -> float:
    """Of the matrices that read: Nguyen and Salazar 2019, https://arxiv.org/abs/1910.05895."""
    return math.sqrt(2 / (5 * width))


def writing_deviation(width: int, layers: int) -> float:
    """Of the matrices that write into the residual stream, smaller the more layers do."""
    return 2 / (layers * math.sqrt(width))


def normal_linear(n_inputs: int, n_outputs: int, deviation: float) -> nn.Linear:
    """A linear map without bias, normal of the given deviation."""
    linear = nn.Linear(n_inputs, n_outputs, bias=False)
    nn.init.normal_(linear.weight, std=deviation)
    return linear
