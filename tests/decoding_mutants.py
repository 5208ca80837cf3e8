"""Encoder-decoders that cheat, and the law that is meant to catch each."""

from __future__ import annotations

import torch
from torch import Tensor

from architectures.body import State
from architectures.encoder_decoder import EncoderDecoder


class ForgetsTheState(EncoderDecoder):
    """`decode` returns the state that it was given."""

    def decode(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        y, _ = super().decode(x, state)
        return y, state


class StepsOtherwise(EncoderDecoder):
    """One symbol is a little different from many."""

    def decode_step(self, x_t: Tensor, state: State) -> tuple[Tensor, State]:
        y_t, state = super().decode_step(x_t, state)
        return y_t + 1e-6, state


class ReadsPadding(EncoderDecoder):
    """The source's length is ignored."""

    def encode(self, x: Tensor, *, lengths: Tensor | None = None) -> State:
        return super().encode(x)


class MixesSources(EncoderDecoder):
    """A row's memory is the mean over the batch."""

    def encode(self, x: Tensor, *, lengths: Tensor | None = None) -> State:
        inner, before, (keys, values, real) = super().encode(x, lengths=lengths)
        return inner, before, (keys, values.mean(0, keepdim=True).expand_as(values), real)


class PeeksAhead(EncoderDecoder):
    """A symbol knows the next one."""

    def decode(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        return super().decode(x + torch.cat([x[:, 1:], x[:, -1:]], dim=1), state)


class CutsTheGradient(EncoderDecoder):
    """The source is read, and learns nothing."""

    def encode(self, x: Tensor, *, lengths: Tensor | None = None) -> State:
        return super().encode(x.detach(), lengths=lengths)


MUTANTS: list[tuple[type[EncoderDecoder], str]] = [
    (ForgetsTheState, "decoding_in_any_split"),
    (StepsOtherwise, "decoding_in_any_split"),
    (ReadsPadding, "a_source_alone_is_the_source_in_a_batch"),
    (MixesSources, "a_source_alone_is_the_source_in_a_batch"),
    (PeeksAhead, "a_source_alone_is_the_source_in_a_batch"),
    (CutsTheGradient, "gradients_reach_the_source"),
]
