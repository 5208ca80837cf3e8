"""Bodies of several kinds in sequence, as in Jamba: Lieber et al. 2024,
https://arxiv.org/abs/2403.19887, section 2, which has attention in every eighth layer.
"""

from __future__ import annotations

import inspect
import math
from typing import Any

from torch import Tensor, nn

from architectures.bidirectional import check_options, resolve
from architectures.body import Body, State
from architectures.layers.checks import check_at_least

PATTERN = ("mamba", "mamba", "mamba", "transformer")


class Hybrid(Body):
    """Architectures in sequence, one layer each: a pattern of names, repeated.

    `options` has the options of each name in the pattern; `layers` is 1 unless it says otherwise.
    State: the tuple of the layers' states.
    """

    def __init__(
        self,
        width: int,
        *,
        pattern: list[str] | None = None,
        repeats: int = 1,
        options: dict[str, dict[str, Any]] | None = None,
    ) -> None:
        super().__init__(width)
        check_at_least("repeats", repeats, 1)
        names = pattern_of(pattern)
        chosen = layer_options(names, options)
        # Bodies have options of their own, which Body's signature does not name.
        classes: dict[str, Any] = {name: resolve(name) for name in names}
        bodies = [classes[name](width, **chosen[name]) for _ in range(repeats) for name in names]
        self.causal = all(body.causal for body in bodies)
        self.state_grows = any(body.state_grows for body in bodies)
        self.bodies = nn.ModuleList(bodies)

    def forward(
        self, x: Tensor, state: State = None, *, lengths: Tensor | None = None
    ) -> tuple[Tensor, State]:
        """Map x (B, T, D) to y (B, T, D)."""
        self._check_state(x, state, lengths)
        new_states = []
        for index, body in enumerate(self.bodies):
            x, new_state = body(x, None if state is None else state[index], lengths=lengths)
            new_states.append(new_state)
        return x, tuple(new_states)

    def step(self, x_t: Tensor, state: State = None) -> tuple[Tensor, State]:
        """Map one token x_t (B, D) to y_t (B, D) by the layers' own steps."""
        self._check_state(x_t.unsqueeze(1), state, None)
        new_states = []
        for index, body in enumerate(self.inner_bodies()):
            x_t, new_state = body.step(x_t, None if state is None else state[index])
            new_states.append(new_state)
        return x_t, tuple(new_states)

    def _check_state(self, x: Tensor, state: State, lengths: Tensor | None) -> None:
        if state is not None and not self.causal:
            raise ValueError(
                "a hybrid with a layer that reads both ways cannot stream: it takes no incoming "
                "state, so pass the whole sequence at once"
            )
        self.check_call(x, state, lengths)
        if state is not None and len(state) != len(self.bodies):
            raise ValueError(
                f"the state has {len(state)} layers, but this body has {len(self.bodies)}: "
                "pass a state that this body returned"
            )

    def flops_per_token(self, length: int) -> float:
        """The sum over the layers."""
        return sum(body.flops_per_token(length) for body in self.inner_bodies())

    @classmethod
    def width_multiple(cls, **options: Any) -> int:
        """The least that all layers can have."""
        names = pattern_of(options.get("pattern"))
        chosen = layer_options(names, options.get("options"))
        return math.lcm(*(resolve(name).width_multiple(**chosen[name]) for name in names))


def pattern_of(pattern: list[str] | None) -> list[str]:
    """The names of the layers of one repeat."""
    names = list(PATTERN if pattern is None else pattern)
    if not names:
        raise ValueError("pattern is an empty list: name at least one architecture")
    return names


def layer_options(
    names: list[str], options: dict[str, dict[str, Any]] | None
) -> dict[str, dict[str, Any]]:
    """The options of each name, one layer unless they say otherwise.

    Raises:
        ValueError: an unknown architecture or option, or options of a name not in the pattern.
    """
    given = options or {}
    for name in given:
        if name not in names:
            raise ValueError(f"options of {name!r}, which is not in the pattern {names}")
    chosen = {}
    for name in dict.fromkeys(names):
        architecture = resolve(name)
        own = given.get(name, {})
        check_options(name, architecture, own)
        has_layers = "layers" in inspect.signature(architecture).parameters
        chosen[name] = {**({"layers": 1} if has_layers else {}), **own}
    return chosen
