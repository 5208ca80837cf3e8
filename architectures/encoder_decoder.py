"""Encoder and decoder: Sutskever et al. 2014, https://arxiv.org/abs/1409.3215, with attention as in
Bahdanau et al. 2015, https://arxiv.org/abs/1409.0473, or Luong et al. 2015,
https://arxiv.org/abs/1508.04025.

B batch, T tokens of the source, S symbols of the answer, D width.
"""

from __future__ import annotations

import math
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor, nn

from architectures.bidirectional import check_options, resolve
from architectures.body import Body, State, real_positions
from architectures.kernels.paths import REFERENCE, note
from architectures.layers.bidirectional import refuse_state
from architectures.layers.checks import check_choice
from architectures.layers.memory_attention import (
    AdditiveAttention,
    GeneralAttention,
    Kept,
    Memory,
)

Attend: TypeAlias = Literal["none", "bahdanau", "luong"]
ATTENTIONS = ("none", "bahdanau", "luong")


class EncoderDecoder(Body):
    """Two architectures: one reads the whole source, the other writes from its state.

    `encoder` and `decoder` are their names and `encoder_options`, `decoder_options` their options.
    A decoder that is the encoder's like begins from the encoder's state (Sutskever). Any other
    begins by reading one vector, tanh(W [last output, mean output] + b).

    `attention` to the encoder's outputs: "bahdanau" scores them by the decoder's output before
    (equations 5 and 6) and feeds the context in with the next symbol, one symbol after the other;
    "luong" scores them by the decoder's present output (section 3.1, "general"), all symbols at
    once.

    On tasks that ask for no sequence it reads the input twice, as source and as answer.
    State: (decoder state,) or, with attention, (decoder state, output before (B, D), memory), where
    the memory has the encoder's outputs and their keys (B, T, D) and which are real (B, T).
    """

    causal = False

    def __init__(
        self,
        width: int,
        *,
        encoder: str = "gru",
        decoder: str = "gru",
        encoder_options: dict[str, Any] | None = None,
        decoder_options: dict[str, Any] | None = None,
        attention: Attend = "none",
    ) -> None:
        super().__init__(width)
        check_choice("attention", attention, ATTENTIONS)
        self.encoder = build(encoder, width, encoder_options)
        self.decoder = build(decoder, width, decoder_options)
        if not self.decoder.causal:
            raise ValueError(
                f"the decoder {decoder!r} reads both ways and cannot write symbol by symbol: "
                "name a causal architecture"
            )
        alike = (encoder, encoder_options or {}) == (decoder, decoder_options or {})
        self.bridge = None if alike else nn.Linear(2 * width, width)
        self.attention = attention
        self.attend: AdditiveAttention | GeneralAttention | None = None
        if attention != "none":
            kind = AdditiveAttention if attention == "bahdanau" else GeneralAttention
            self.attend = kind(width)
            self.merge = nn.Linear(2 * width, width)
        self.state_grows = self.attend is not None or (alike and self.decoder.state_grows)

    def forward(
        self, x: Tensor, state: State = None, *, lengths: Tensor | None = None
    ) -> tuple[Tensor, State]:
        """Map x (B, T, D) to y (B, T, D), and the state that `decode` begins from."""
        refuse_state(state)
        state = self.encode(x, lengths=lengths)
        if lengths is not None:  # the decoder is causal: what pads x may pass through it as 0
            x = x.masked_fill(~real_positions(lengths, x.shape[1]).unsqueeze(2), 0.0)
        y, _ = self.decode(x, state)
        return y, state

    def encode(self, x: Tensor, *, lengths: Tensor | None = None) -> State:
        """Read a source x (B, T, D): the decoder's first state, and what it may attend to."""
        self.check_call(x, None, lengths)
        y, state = self.encoder(x, lengths=lengths)  # (B, T, D)
        memory = Memory.of(y, lengths)
        if self.bridge is not None:
            summary = torch.cat([memory.last(), memory.mean()], dim=1)  # (B, 2D)
            _, state = self.decoder.step(torch.tanh(self.bridge(summary)))
        if self.attend is None:
            return (state,)
        return state, torch.zeros_like(y[:, 0]), self.attend.kept(memory)

    def decode(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """Map the answer so far x (B, S, D) to y (B, S, D)."""
        if state is None:
            raise ValueError("there is no source to answer: pass the state that encode returned")
        self.check_call(x, state, None)
        if self.attend is None:
            y, inner = self.decoder(x, state[0])
            return y, (inner,)
        inner, before, kept = state
        if self.attention == "bahdanau":
            return self._in_turn(x, inner, before, kept)
        y, inner = self.decoder(x, inner)
        context = self.attend(y, kept)  # (B, S, D)
        return torch.tanh(self.merge(torch.cat([context, y], dim=2))), (inner, before, kept)

    def decode_step(self, x_t: Tensor, state: State) -> tuple[Tensor, State]:
        """Map one symbol x_t (B, D) to y_t (B, D)."""
        y, state = self.decode(x_t.unsqueeze(1), state)
        return y.squeeze(1), state

    @property
    def decodes(self) -> bool:
        """It does, although it is not causal."""
        return True

    def _in_turn(self, x: Tensor, inner: State, before: Tensor, kept: Kept) -> tuple[Tensor, State]:
        """One symbol after the other: the output before it asks for the context of each."""
        assert self.attend is not None
        note("attention_in_turn", REFERENCE)
        outputs = []
        for x_t in x.unbind(1):
            context = self.attend(before.unsqueeze(1), kept).squeeze(1)  # (B, D)
            before, inner = self.decoder.step(self.merge(torch.cat([x_t, context], dim=1)), inner)
            outputs.append(before)
        return torch.stack(outputs, dim=1), (inner, before, kept)

    def flops_per_token(self, length: int) -> float:
        """Both bodies, and attention to `length` tokens of the source, for each token."""
        both = sum(body.flops_per_token(length) for body in self.inner_bodies())
        if self.attend is None:
            return both
        return both + 4.0 * self.width**2 + self.attend.flops_per_query(length)

    @classmethod
    def width_multiple(cls, **options: Any) -> int:
        """What both can have."""
        multiples = []
        for side in ("encoder", "decoder"):
            architecture = resolve(options.get(side, "gru"))
            multiples.append(architecture.width_multiple(**(options.get(f"{side}_options") or {})))
        return math.lcm(*multiples)


def build(name: str, width: int, options: dict[str, Any] | None) -> Body:
    """The registered architecture of that name.

    Raises:
        ValueError: an unknown architecture or option.
    """
    architecture: Any = resolve(name)
    check_options(name, architecture, options or {})
    body: Body = architecture(width, **(options or {}))
    return body
