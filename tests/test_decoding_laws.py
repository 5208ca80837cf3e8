"""The laws of writing an answer catch the body that breaks them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from architectures.body import State
from architectures.encoder_decoder import EncoderDecoder
from bench.certify.laws import LAWS
from bench.certify.report import lines

DECODING = (
    "decoding_in_any_split",
    "a_source_alone_is_the_source_in_a_batch",
    "gradients_reach_the_source",
)


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


@pytest.mark.parametrize(
    ("mutant", "law"),
    [
        (ForgetsTheState, "decoding_in_any_split"),
        (StepsOtherwise, "decoding_in_any_split"),
        (ReadsPadding, "a_source_alone_is_the_source_in_a_batch"),
        (MixesSources, "a_source_alone_is_the_source_in_a_batch"),
        (PeeksAhead, "a_source_alone_is_the_source_in_a_batch"),
        (CutsTheGradient, "gradients_reach_the_source"),
    ],
)
def test_each_mutant_is_caught_by_the_law_meant_for_it(
    mutant: type[EncoderDecoder], law: str
) -> None:
    finding = LAWS[law](lambda: mutant(13, attention="luong"), torch.float64, torch.device("cpu"))
    assert not finding.holds
    assert "BROKEN" in lines("mutant", [finding])


@pytest.mark.parametrize("law", DECODING)
def test_the_body_that_the_mutants_are_made_of_keeps_the_laws(law: str) -> None:
    finding = LAWS[law](
        lambda: EncoderDecoder(13, attention="luong"), torch.float64, torch.device("cpu")
    )
    assert finding.holds, finding
