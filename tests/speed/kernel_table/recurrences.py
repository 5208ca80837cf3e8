"""The recurrences of torch.nn: GRU and RNN by native code; the LSTM, which is torch's own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

import torch
from torch import Tensor
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from architectures.body import real_positions
from architectures.layers.recurrent import CellName, RecurrentStack
from tests.speed.kernel_table.comparison import BATCH, Comparison, normal

LENGTH = 2048
BOUNDS: tuple[tuple[CellName, int, float], ...] = (
    ("gru", 64, 10.0),
    ("gru", 128, 5.0),
    ("rnn", 64, 4.0),
    ("rnn", 128, 2.0),
)


def comparisons(device: torch.device) -> Iterator[Comparison]:
    """Layers against torch.nn's module with the same parameters."""
    for cell, width, bound in BOUNDS:
        layer, inputs = layer_and_inputs(cell, width, device)
        yield Comparison(
            name=f"{cell} D={width} T={LENGTH}",
            native=lambda x, *_, layer=layer: layer(x)[0],
            peer_name=f"torch.nn.{cell.upper()}",
            peer=lambda x, *_, layer=layer: layer.recurrence(x)[0],
            inputs=inputs,
            bound=bound,
            flops=flops(layer),
            cuda=False,  # both are cuDNN's
        )
    layer, inputs = layer_and_inputs("lstm", 64, device)
    yield Comparison(
        name=f"lstm D=64 T={LENGTH}",
        native=lambda x, *_: layer(x)[0],
        peer_name="torch.nn.LSTM, oneDNN",
        peer=lambda x, *_: layer.recurrence(x)[0],
        inputs=inputs,
        bound=1.0,
        not_slower=True,
        flops=flops(layer),
        cuda=False,
    )
    # Rows end one after another, the first after a quarter of the time.
    lengths = torch.linspace(LENGTH / 4, LENGTH, BATCH).long()

    padding = ~real_positions(lengths, LENGTH).unsqueeze(2)  # (B, T, 1)

    def by_lengths(x: Tensor, *_: Tensor) -> Tensor:
        """Our body, with zeros beyond the lengths as the peer has them."""
        return cast(Tensor, layer(x, lengths=lengths)[0]).masked_fill(padding, 0.0)

    def packed(x: Tensor, *_: Tensor) -> Tensor:
        """What torch offers for rows of several lengths."""
        given = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        return pad_packed_sequence(layer.recurrence(given)[0], batch_first=True)[0]

    yield Comparison(
        name=f"lstm D=64 T={LENGTH}, ragged",
        native=by_lengths,
        peer_name="torch.nn.LSTM, packed",
        peer=packed,
        inputs=inputs,
        bound=3.0,
        flops=flops(layer) * float(lengths.sum()) / (BATCH * LENGTH),
        quick=False,
        cuda=False,
    )


def layer_and_inputs(
    cell: CellName, width: int, device: torch.device
) -> tuple[RecurrentStack, list[Tensor]]:
    """One layer; x (B, T, D), and the parameters, so that their gradients are asked for."""
    layer = RecurrentStack(width, cell).to(device)
    return layer, [normal(BATCH, LENGTH, width, device=device), *layer.parameters()]


def flops(layer: RecurrentStack) -> float:
    """Of forward and backward, all tokens."""
    return 3 * layer.flops_per_token(LENGTH) * BATCH * LENGTH
