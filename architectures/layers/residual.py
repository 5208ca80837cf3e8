"""The residual backbone that the architectures share: pre-norm blocks and a final norm.

Pre-norm: Xiong et al. 2020, https://arxiv.org/abs/2002.04745. LayerNorm: Ba et al. 2016,
https://arxiv.org/abs/1607.06450, equation 4; for all architectures, though some papers have
RMSNorm, which on a CPU torch runs 6 times slower: norms would weigh on every comparison.

    x <- x + dropout(mixer(norm(x)))
    x <- x + dropout(mlp(norm(x)))      if mlp_ratio > 0

B batch, T time, D width.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from architectures.body import Body, State, real_positions
from architectures.layers.checks import check_at_least, check_dropout


class ChannelMlp(nn.Module):
    """Linear, GELU, linear, on each token alone."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.expand = nn.Linear(width, hidden)
        self.activation = nn.GELU()
        self.contract = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """Map x (..., D) to (..., D)."""
        y: Tensor = self.contract(self.activation(self.expand(x)))
        return y


class Block(nn.Module):
    """One mixer of time and, unless mlp_ratio is 0, one mixer of channels."""

    def __init__(self, mixer: Body, *, mlp_ratio: float, dropout: float) -> None:
        super().__init__()
        width = mixer.width
        self.norm = nn.LayerNorm(width)
        self.mixer = mixer
        self.dropout = nn.Dropout(dropout)
        self.mlp_hidden = round(mlp_ratio * width)
        self.mlp: nn.Module | None = None
        if self.mlp_hidden:
            self.mlp = nn.Sequential(nn.LayerNorm(width), ChannelMlp(width, self.mlp_hidden))

    def forward(
        self, x: Tensor, state: State, lengths: Tensor | None = None, *, one_token: bool = False
    ) -> tuple[Tensor, State]:
        """Map x (B, T, D), or (B, D) if it is one token, to the same shape."""
        if one_token:
            mixed, state = self.mixer.step(self.norm(x), state)
        else:
            mixed, state = self.mixer(self.norm(x), state, lengths=lengths)
        x = x + self.dropout(mixed)
        if self.mlp is not None:
            x = x + self.dropout(self.mlp(x))
        return x, state


class Residual(Body):
    """Pre-norm residual blocks around the given mixers. State: the tuple of the mixers' states."""

    def __init__(
        self,
        width: int,
        mixers: Sequence[Body],
        *,
        mlp_ratio: float = 0.0,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(width)
        check_at_least("mlp_ratio", mlp_ratio, 0)
        check_dropout(dropout)
        if any(mixer.width != width for mixer in mixers):
            raise ValueError(f"mixers of widths {[m.width for m in mixers]} in a body of {width}")
        self.causal = all(mixer.causal for mixer in mixers)
        self.state_grows = any(mixer.state_grows for mixer in mixers)
        self.blocks = nn.ModuleList(
            Block(mixer, mlp_ratio=mlp_ratio, dropout=dropout) for mixer in mixers
        )
        self.norm = nn.LayerNorm(width)

    def forward(
        self, x: Tensor, state: State = None, *, lengths: Tensor | None = None
    ) -> tuple[Tensor, State]:
        """Map x (B, T, D) to y (B, T, D)."""
        self.check_call(x, state, lengths)
        if lengths is not None:
            # Padding may hold anything; a mixer that multiplies it by 0 must not meet inf or nan.
            x = x.masked_fill(~real_positions(lengths, x.shape[1]).unsqueeze(2), 0.0)
        return self._through_blocks(x, state, lengths, one_token=False)

    def step(self, x_t: Tensor, state: State = None) -> tuple[Tensor, State]:
        """Map one token x_t (B, D) to y_t (B, D) by the mixers' own steps."""
        self.check_call(x_t.unsqueeze(1), state, None)
        return self._through_blocks(x_t, state, None, one_token=True)

    def _through_blocks(
        self, x: Tensor, state: State, lengths: Tensor | None, *, one_token: bool
    ) -> tuple[Tensor, State]:
        new_states = []
        for block, block_state in zip(self.blocks, self.block_states(state), strict=True):
            x, new_state = block(x, block_state, lengths, one_token=one_token)
            new_states.append(new_state)
        return self.norm(x), tuple(new_states)

    def block_states(self, state: State) -> tuple[State, ...]:
        """The state of each block, None for all at the beginning of the sequence."""
        states = (None,) * len(self.blocks) if state is None else tuple(state)
        if len(states) != len(self.blocks):
            raise ValueError(
                f"the state has {len(states)} layers, but this body has {len(self.blocks)}: "
                "pass a state that this body returned"
            )
        return states

    def flops_per_token(self, length: int) -> float:
        """The mixers' operations and those of the channel MLPs, 4 D hidden each."""
        mixing = sum(mixer.flops_per_token(length) for mixer in self.inner_bodies())
        hidden = sum(block.mlp_hidden for block in self.blocks if isinstance(block, Block))
        return mixing + 4.0 * self.width * hidden
