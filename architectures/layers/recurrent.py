"""torch's recurrent layers as a body: stacked, one cell a layer, no residual and no norm.

torch.nn.RNN, LSTM and GRU are wrapped, and not rewritten, so that oneDNN and cuDNN are taken
where they are available. On a CPU, where torch has no more than a loop for GRU and RNN, their
parameters go to kernels/recurrence.py instead, in one direction, below float64.

B batch, T time, D width, L layers, H width of one direction (D, or D/2 if there are two).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import repeat
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout as drop
from torch.nn.functional import linear, pad
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from architectures.body import Body, State, real_positions
from architectures.kernels.recurrence import (
    gru_recurrence,
    recurrence_is_native,
    rnn_recurrence,
)
from architectures.layers.bidirectional import refuse_state, reverse
from architectures.layers.checks import (
    check_at_least,
    check_choice,
    check_divides,
    check_dropout,
    check_finite,
)

CellName: TypeAlias = Literal["rnn", "lstm", "gru"]
GATES: dict[CellName, int] = {"rnn": 1, "lstm": 4, "gru": 3}
CELLS: dict[str, Callable[..., Any]] = {
    "LSTM": torch.lstm_cell,
    "GRU": torch.gru_cell,
    "RNN_TANH": torch.rnn_tanh_cell,
    "RNN_RELU": torch.rnn_relu_cell,
}
"""torch's functions for one token, by the mode of its modules."""
# The identity is for cells without gates.
INITIALISATIONS: dict[CellName, tuple[str, ...]] = {
    "rnn": ("default", "orthogonal", "identity"),
    "lstm": ("default", "orthogonal"),
    "gru": ("default", "orthogonal"),
}
IDENTITY_INPUT_STD = 1e-3  # Le et al. 2015: non-recurrent weights


class RecurrentStack(Body):
    """L stacked layers of one cell. State: h (B, L, D), and for the LSTM the pair (h, c).

    With two directions the layers of a state alternate, forward and backward: (B, 2L, D/2).
    """

    def __init__(
        self,
        width: int,
        cell: CellName,
        *,
        layers: int = 1,
        dropout: float = 0.0,
        init: Literal["default", "orthogonal", "identity"] = "default",
        nonlinearity: Literal["tanh", "relu"] = "tanh",
        forget_bias: float = 1.0,
        learn_initial_state: bool = False,
        bidirectional: bool = False,
    ) -> None:
        super().__init__(width)
        check_at_least("layers", layers, 1)
        check_dropout(dropout)
        check_finite("forget_bias", forget_bias)
        check_choice("init", init, INITIALISATIONS[cell])
        check_choice("nonlinearity", nonlinearity, ("tanh", "relu"))
        n_directions = 2 if bidirectional else 1
        check_divides("directions", n_directions, width)
        hidden = width // n_directions
        self.causal = not bidirectional
        self.cell: CellName = cell
        self.layers = layers
        # torch warns if a single layer is given a dropout between layers.
        between = dropout if layers > 1 else 0.0
        self.recurrence: nn.RNNBase
        if cell == "rnn":
            self.recurrence = nn.RNN(
                width,
                hidden,
                layers,
                nonlinearity=nonlinearity,
                batch_first=True,
                dropout=between,
                bidirectional=bidirectional,
            )
        else:
            layer_class = nn.LSTM if cell == "lstm" else nn.GRU
            self.recurrence = layer_class(
                width,
                hidden,
                layers,
                batch_first=True,
                dropout=between,
                bidirectional=bidirectional,
            )
        initialise(self.recurrence, init)
        if cell == "lstm":
            set_forget_bias(self.recurrence, forget_bias)
        self.initial_state: nn.ParameterList | None = None
        if learn_initial_state:
            self.initial_state = nn.ParameterList(
                torch.zeros(layers * n_directions, hidden)
                for _ in range(2 if cell == "lstm" else 1)
            )

    def forward(
        self, x: Tensor, state: State = None, *, lengths: Tensor | None = None
    ) -> tuple[Tensor, State]:
        """Map x (B, T, D) to y (B, T, D)."""
        if not self.causal:
            refuse_state(state)
        self.check_call(x, state, lengths)
        torch_state = self._torch_state(state, x.shape[0])
        if lengths is None:
            y, new_state = self._run(x, torch_state)
        elif x.device.type != "cpu":
            packed = pack_padded_sequence(x, lengths.cpu(), batch_first=True, enforce_sorted=False)
            packed_y, new_state = self.recurrence(packed, torch_state)
            y, _ = pad_packed_sequence(packed_y, batch_first=True, total_length=x.shape[1])
        elif self.causal:
            y, new_state = self._run_in_segments(self._run, x, torch_state, lengths)
        else:
            y, new_state = self._run_both_ways(x, torch_state, lengths)
        if isinstance(new_state, tuple):
            return y, tuple(tensor.transpose(0, 1) for tensor in new_state)  # each (B, L, H)
        return y, new_state.transpose(0, 1)  # (B, L, H)

    def step(self, x_t: Tensor, state: State = None) -> tuple[Tensor, State]:
        """Map one token x_t (B, D) to y_t (B, D), on a CPU by torch's cells.

        What is fast over a sequence prepares itself at each call, and for one token that is most of
        its time: native code packs the weights, oneDNN reorders them.
        """
        lowered = torch.is_autocast_enabled("cpu")  # of which torch's cells take no notice
        if x_t.device.type != "cpu" or not self.causal or lowered:
            return super().step(x_t, state)
        self.check_call(x_t.unsqueeze(1), state, None)
        before = self._torch_state(state, len(x_t))
        if before is None:
            zeros = x_t.new_zeros(self.layers, len(x_t), self.width)
            before = (zeros, zeros) if self.cell == "lstm" else zeros
        cell = CELLS[self.recurrence.mode]
        final: list[tuple[Tensor, ...]] = []
        for layer in range(self.layers):
            if layer:
                x_t = drop(x_t, self.recurrence.dropout, self.training)
            if isinstance(before, tuple):
                after = cell(x_t, tuple(part[layer] for part in before), *self._weights(layer))
            else:
                after = (cell(x_t, before[layer], *self._weights(layer)),)
            x_t = after[0]
            final.append(after)
        parts = tuple(torch.stack(part, dim=1) for part in zip(*final, strict=True))  # (B, L, H)
        return x_t, parts if self.cell == "lstm" else parts[0]

    def _weights(self, layer: int) -> list[Tensor]:
        """W (G H, D), U (G H, H), b and c (G H,) of a layer that reads forward."""
        names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        return [getattr(self.recurrence, f"{name}_l{layer}") for name in names]

    def _run(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """Run x (B, T, D) from a state with layers first: by native code, or by torch's module."""
        given = (x,) if state is None else (x, state)
        other = self.cell == "lstm" or not self.causal
        if other or not recurrence_is_native(*given, *self.recurrence.parameters()):
            return self._run_torch(x, state)
        if state is None:
            state = x.new_zeros(self.layers, x.shape[0], self.width)
        final = []
        for layer in range(self.layers):
            if layer:
                x = drop(x, self.recurrence.dropout, self.training)
            x = self._run_layer(x, state[layer], layer)
            final.append(x[:, -1])
        return x, torch.stack(final)

    def _run_layer(self, x: Tensor, state: Tensor, layer: int) -> Tensor:
        """One layer by native code: h (B, T, D) of x (B, T, D) and state (B, D)."""
        W, U, b, c = self._weights(layer)
        if self.cell == "rnn":
            relu = self.recurrence.mode == "RNN_RELU"
            return rnn_recurrence(linear(x, W), U, b + c, state, relu=relu)
        # The reset gate multiplies the last third of c too; the rest of it is added to b.
        outside, inside = c.split([2 * self.width, self.width])
        bias = torch.cat([b + pad(outside, (0, self.width)), inside])  # (4H,)
        return gru_recurrence(linear(x, W), U, bias, state)

    def _run_torch(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """Run x by torch's module, all layers."""
        with self._onednn_where_it_can(x):
            y, new_state = self.recurrence(x, state)
        return y, new_state

    def _run_both_ways(self, x: Tensor, state: State, lengths: Tensor) -> tuple[Tensor, State]:
        """Run x (B, T, D) layer by layer, the backward direction on each row's tokens reversed."""
        before = state if isinstance(state, tuple) or state is None else (state,)
        final: list[tuple[Tensor, ...]] = []
        for layer in range(self.layers):
            if layer:
                x = drop(x, self.recurrence.dropout, self.training)
            ways = []
            for way, suffix in enumerate((f"l{layer}", f"l{layer}_reverse")):
                own = before and tuple(part[2 * layer + way].unsqueeze(0) for part in before)
                run = partial(self._run_direction, suffix)
                read = reverse(x, lengths) if way else x
                y, after = self._run_in_segments(run, read, own, lengths)
                ways.append(reverse(y, lengths) if way else y)
                final.append(after)
            x = torch.cat(ways, dim=2)  # (B, T, D)
        parts = tuple(torch.cat(part) for part in zip(*final, strict=True))  # each (2L, B, H)
        return x, parts if self.cell == "lstm" else parts[0]

    def _run_direction(self, suffix: str, x: Tensor, state: State) -> tuple[Tensor, State]:
        """One direction of one layer on x (B, T, D or 2H), from a state of (1, B, H) each."""
        names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        weights = [getattr(self.recurrence, f"{name}_{suffix}") for name in names]
        if state is None:
            zeros = x.new_zeros(1, len(x), self.recurrence.hidden_size)
            state = (zeros, zeros) if self.cell == "lstm" else (zeros,)
        options = True, 1, 0.0, self.training, False, True  # biases, layers, ..., batch first
        with self._onednn_where_it_can(x):
            if self.cell == "lstm":
                y, h, c = torch.lstm(x, state, weights, *options)
                return y, (h, c)
            functions = {"GRU": torch.gru, "RNN_TANH": torch.rnn_tanh, "RNN_RELU": torch.rnn_relu}
            y, h = functions[self.recurrence.mode](x, state[0], weights, *options)
        return y, (h,)

    @contextmanager
    def _onednn_where_it_can(self, x: Tensor) -> Iterator[None]:
        """Keep torch's LSTM from oneDNN where autocast would ask it for what it has not.

        torch looks for oneDNN's LSTM by the dtype of x, float32, and autocast then lowers x.
        """
        lowered = x.device.type == "cpu" and torch.is_autocast_enabled("cpu")
        if lowered and self.cell == "lstm" and not onednn_takes(lowered_dtype(x.dtype)):
            with without_onednn():
                yield
        else:
            yield

    def _run_in_segments(
        self,
        run: Callable[[Tensor, State], tuple[Tensor, State]],
        x: Tensor,
        state: State,
        lengths: Tensor,
    ) -> tuple[Tensor, State]:
        """Run x (B, T, D) from one length to the next, and keep each row's state at its own.

        On a CPU packing leaves oneDNN and takes 1.4 to 16 times as long (LSTM, D = 64, T = 128 and
        512).
        """
        x = x.masked_fill(~real_positions(lengths, x.shape[1]).unsqueeze(2), 0.0)
        outputs: list[Tensor] = []
        final: tuple[Tensor, ...] = ()
        start = 0
        for end in lengths.unique().tolist():
            y, state = run(x[:, start:end], state)
            outputs.append(y)
            parts = state if isinstance(state, tuple) else (state,)
            ends_here = (lengths == end).view(1, -1, 1)
            kept = final or parts
            final = tuple(map(torch.where, repeat(ends_here), parts, kept))  # each (L, B, H)
            start = end
        y = pad(torch.cat(outputs, dim=1), (0, 0, 0, x.shape[1] - start))  # (B, T, H)
        return y, final if isinstance(state, tuple) else final[0]

    def _torch_state(self, state: State, n_rows: int) -> State:
        """The state as torch wants it, layers first, (L, B, H)."""
        if state is None and self.initial_state is None:
            return None
        if state is None and self.initial_state is not None:
            learned = [tensor.expand(n_rows, -1, -1) for tensor in self.initial_state]  # (B, L, H)
            state = tuple(learned) if self.cell == "lstm" else learned[0]
        self._check_state(state)
        if isinstance(state, tuple):
            return tuple(tensor.transpose(0, 1).contiguous() for tensor in state)  # each (L, B, H)
        return state.transpose(0, 1).contiguous()  # (L, B, H)

    def _check_state(self, state: State) -> None:
        """Raise ValueError unless the state is one that this body could have returned."""
        tensors = state if isinstance(state, tuple) else (state,)
        wanted = "the pair (h, c)" if self.cell == "lstm" else "one tensor h"
        n_wanted = 2 if self.cell == "lstm" else 1
        is_pair = isinstance(state, tuple) == (self.cell == "lstm")
        if not is_pair or len(tensors) != n_wanted or not all(map(torch.is_tensor, tensors)):
            raise ValueError(f"the state of {self.cell} is {wanted}: pass one that it returned")
        n_states = self.layers * (1 if self.causal else 2)
        shape = (tensors[0].shape[0], n_states, self.recurrence.hidden_size)
        for tensor in tensors:
            if tensor.shape != shape:
                raise ValueError(
                    f"the state of this {self.cell} has shape {shape}, not "
                    f"{tuple(tensor.shape)}: pass one that it returned"
                )

    def flops_per_token(self, length: int) -> float:
        """2 G H (inputs + H) for each of L layers and each direction; G gates."""
        directions = 1 if self.causal else 2
        hidden = self.width // directions
        per_layer = 2.0 * GATES[self.cell] * hidden * (self.width + hidden)
        return self.layers * directions * per_layer


def lowered_dtype(dtype: torch.dtype) -> torch.dtype:
    """What autocast on a CPU makes of a dtype in the recurrent layers."""
    return torch.get_autocast_dtype("cpu") if dtype == torch.float32 else dtype


def onednn_takes(dtype: torch.dtype) -> bool:
    """Whether oneDNN is in use and has an LSTM of this dtype; of bfloat16 with AVX-512 alone."""
    if not (torch.backends.mkldnn.is_available() and bool(torch.backends.mkldnn.enabled)):
        return False
    if dtype == torch.bfloat16:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return dtype == torch.float32


@contextmanager
def without_onednn() -> Iterator[None]:
    """Switch oneDNN off; torch.backends.mkldnn.flags does too, and warns of Intel's GPUs."""
    backend: Any = torch.backends.mkldnn
    before = backend.enabled
    backend.enabled = False
    try:
        yield
    finally:
        backend.enabled = before


@torch.no_grad()
def initialise(recurrence: nn.RNNBase, init: str) -> None:
    """Set the weights as the option says, gate by gate. "default" is torch's uniform.

    "orthogonal": Saxe et al. 2014, https://arxiv.org/abs/1312.6120.
    "identity": Le et al. 2015, https://arxiv.org/abs/1504.00941: recurrent matrix I, biases 0
    and small input weights.
    """
    if init == "default":
        return
    hidden = recurrence.hidden_size
    for name, parameter in recurrence.named_parameters():
        if name.startswith("weight_hh"):
            for gate in torch.split(parameter, hidden):
                if init == "orthogonal":
                    nn.init.orthogonal_(gate)
                else:
                    nn.init.eye_(gate)
        elif init == "identity" and name.startswith("bias"):
            nn.init.zeros_(parameter)
        elif init == "identity":
            nn.init.normal_(parameter, std=IDENTITY_INPUT_STD)


@torch.no_grad()
def set_forget_bias(recurrence: nn.RNNBase, forget_bias: float) -> None:
    """Set the LSTM's forget bias: Gers et al. 2000, https://doi.org/10.1162/089976600300015015.

    torch adds two biases to each gate, ordered input, forget, cell, output: their sum is set.
    """
    hidden = recurrence.hidden_size
    for name, parameter in recurrence.named_parameters():
        if name.startswith("bias_ih"):
            parameter[hidden : 2 * hidden] = forget_bias
        elif name.startswith("bias_hh"):
            parameter[hidden : 2 * hidden] = 0.0
