"""A right body, and mutants of it that each break a law."""

from typing import Any

import torch
from torch import Tensor, nn

from architectures.body import Body, State, real_positions

WIDTH = 5
LATE = 150  # tokens: past what every law but that of long streams reads


class Leaky(Body):
    """A right body: h_t = decay h_{t-1} + W x_t, y = h. State: h (B, D)."""

    def __init__(self, width: int = WIDTH) -> None:
        super().__init__(width)
        self.decay = nn.Parameter(torch.full((width,), 0.7))
        self.project = nn.Linear(width, width)

    def forward(
        self, x: Tensor, state: State = None, *, lengths: Tensor | None = None
    ) -> tuple[Tensor, State]:
        self.check_call(x, state, lengths)
        h = x.new_zeros(x.shape[0], self.width) if state is None else state
        outputs = []
        for t, written in enumerate(self.project(x).unbind(1)):
            new = self.decay * h + written
            h = new if lengths is None else torch.where((t < lengths).unsqueeze(1), new, h)
            outputs.append(new)
        return torch.stack(outputs, dim=1), h


class Mutant(Leaky):
    """What is given to Leaky goes through `before`, and what it returns through `after`."""

    def forward(
        self, x: Tensor, state: State = None, *, lengths: Tensor | None = None
    ) -> tuple[Tensor, State]:
        y, h = super().forward(*self.before(x, state), lengths=lengths)
        return self.after(x, state, lengths, y, h)

    def before(self, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        return x, state

    def after(self, x: Tensor, state: Any, lengths: Any, y: Tensor, h: Any) -> tuple[Tensor, Any]:
        return y, h


class ReturnsOldState(Mutant):
    def after(self, x: Tensor, state: Any, lengths: Any, y: Tensor, h: Any) -> tuple[Tensor, Any]:
        return y, torch.zeros_like(h) if state is None else state


class PeeksAhead(Mutant):
    def after(self, x: Tensor, state: Any, lengths: Any, y: Tensor, h: Any) -> tuple[Tensor, Any]:
        return y + 1e-3 * x.roll(-1, dims=1), h


class PeeksInValueAlone(Mutant):
    """Reads the next token behind a detach, which gradients do not show."""

    def after(self, x: Tensor, state: Any, lengths: Any, y: Tensor, h: Any) -> tuple[Tensor, Any]:
        return y + 1e-3 * x.roll(-1, dims=1).detach(), h


class PeeksInGradientAlone(Mutant):
    """Adds 0 times the next token forwards, and lets its gradient through backwards."""

    def after(self, x: Tensor, state: Any, lengths: Any, y: Tensor, h: Any) -> tuple[Tensor, Any]:
        ahead = x.roll(-1, dims=1)
        return y + (ahead - ahead.detach()), h


class NormalisesOverTheBatch(Mutant):
    def __init__(self, width: int = WIDTH) -> None:
        super().__init__(width)
        self.norm = nn.BatchNorm1d(width, track_running_stats=False)

    def after(self, x: Tensor, state: Any, lengths: Any, y: Tensor, h: Any) -> tuple[Tensor, Any]:
        return self.norm(y.transpose(1, 2)).transpose(1, 2), h


class ReadsTheBatchSize(Mutant):
    """No row reads another, yet each reads how many there are."""

    def after(self, x: Tensor, state: Any, lengths: Any, y: Tensor, h: Any) -> tuple[Tensor, Any]:
        return y * (1 + 1e-3 * len(x)), h


class AlmostIdentity(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return 1.001 * gradient


class WrongGradient(Mutant):
    def before(self, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        return AlmostIdentity.apply(x), state


class StateWithoutGradient(Mutant):
    def before(self, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        return x, None if state is None else state.detach()


class MutatesItsState(Mutant):
    def after(self, x: Tensor, state: Any, lengths: Any, y: Tensor, h: Any) -> tuple[Tensor, Any]:
        if state is not None and not torch.is_grad_enabled():
            state.copy_(h)
            return y, state
        return y, h


class CountsItsCalls(Mutant):
    """Keeps the number of its calls where no state shows it."""

    calls = 0

    def after(self, x: Tensor, state: Any, lengths: Any, y: Tensor, h: Any) -> tuple[Tensor, Any]:
        self.calls += 1
        return y + 1e-3 * self.calls, h


class GoesOnFromItsLastCall(Mutant):
    """A stateful module: without a state it begins where it ended, if the rows are as many."""

    kept: Any = None

    def before(self, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        begins = state is None and self.kept is not None and len(self.kept) == len(x)
        return x, self.kept if begins else state

    def after(self, x: Tensor, state: Any, lengths: Any, y: Tensor, h: Any) -> tuple[Tensor, Any]:
        self.kept = h.detach()
        return y, h


class PaddingLeaksIntoState(Leaky):
    def forward(
        self, x: Tensor, state: State = None, *, lengths: Tensor | None = None
    ) -> tuple[Tensor, State]:
        return super().forward(x, state)


class PaddingTakesTheLastToken(Leaky):
    """With lengths, the state is that before the last token of each row."""

    def forward(
        self, x: Tensor, state: State = None, *, lengths: Tensor | None = None
    ) -> tuple[Tensor, State]:
        return super().forward(x, state, lengths=None if lengths is None else lengths - 1)

    def check_call(self, x: Tensor, state: State, lengths: Tensor | None) -> None:
        super().check_call(x, state, None if lengths is None else lengths + 1)


class PaddingLeaksIntoGradient(Mutant):
    def after(self, x: Tensor, state: Any, lengths: Any, y: Tensor, h: Any) -> tuple[Tensor, Any]:
        if lengths is None:
            return y, h
        total = (x * ~real_positions(lengths, x.shape[1]).unsqueeze(2)).sum(1, keepdim=True)
        return y + (total - total.detach()), h


class StateGrowsUnsaid(Leaky):
    def forward(
        self, x: Tensor, state: State = None, *, lengths: Tensor | None = None
    ) -> tuple[Tensor, State]:
        h, seen = (None, x[:, :0]) if state is None else state
        y, new_h = super().forward(x, h, lengths=lengths)
        return y, (new_h, torch.cat([seen, x], dim=1))


class StateWithoutBatchFirst(Mutant):
    def before(self, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        return x, None if state is None else state.t()

    def after(self, x: Tensor, state: Any, lengths: Any, y: Tensor, h: Any) -> tuple[Tensor, Any]:
        return y, h.t()


class StateIsAViewOfEverything(Mutant):
    def after(self, x: Tensor, state: Any, lengths: Any, y: Tensor, h: Any) -> tuple[Tensor, Any]:
        return y, torch.cat([y, h.unsqueeze(1)], dim=1)[:, -1]


class WrongStep(Leaky):
    def step(self, x_t: Tensor, state: State = None) -> tuple[Tensor, State]:
        y, h = super().step(x_t, state)
        return y + 1e-6, h


class Raises(Leaky):
    def step(self, x_t: Tensor, state: State = None) -> tuple[Tensor, State]:
        raise RuntimeError("out of order")


class UnsavedBuffer(Mutant):
    """Draws a buffer that state_dict leaves out."""

    def __init__(self, width: int = WIDTH) -> None:
        super().__init__(width)
        self.register_buffer("scale", torch.rand(width), persistent=False)

    def before(self, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        return x * self.scale, state


class TakesAStateAgainstTime(Leaky):
    causal = False


class DriftsLate(Leaky):
    """Loses a little of its state at each token after the 150th."""

    def forward(
        self, x: Tensor, state: State = None, *, lengths: Tensor | None = None
    ) -> tuple[Tensor, State]:
        h, seen = (None, x.new_zeros(x.shape[0])) if state is None else state
        y, new_h = super().forward(x, h, lengths=lengths)
        if x.shape[1] == 1 and float(seen.min()) > LATE:
            new_h = 0.999 * new_h
        return y, (new_h, seen + (x.shape[1] if lengths is None else lengths))


class GrowsLate(Leaky):
    """Begins to keep its inputs after the 150th token."""

    def forward(
        self, x: Tensor, state: State = None, *, lengths: Tensor | None = None
    ) -> tuple[Tensor, State]:
        nothing = x.new_zeros(x.shape[0])
        h, seen, kept = (None, nothing, nothing.clone()) if state is None else state
        y, new_h = super().forward(x, h, lengths=lengths)
        if float(seen.min()) > LATE:
            kept = torch.cat([kept.view(len(x), -1), x[:, 0]], dim=1)
        return y, (new_h, seen + (x.shape[1] if lengths is None else lengths), kept)


class CancelsInHalf(Mutant):
    """Right but for rounding, which bfloat16 does not forgive."""

    def after(self, x: Tensor, state: Any, lengths: Any, y: Tensor, h: Any) -> tuple[Tensor, Any]:
        far = torch.full_like(x, 300.0)
        return y + self.project(x + far) - self.project(far), h


class RaisesInHalf(Mutant):
    """Mixes the dtypes that autocast leaves: torch's lerp wants one for both ends."""

    def after(self, x: Tensor, state: Any, lengths: Any, y: Tensor, h: Any) -> tuple[Tensor, Any]:
        return torch.lerp(y, self.project(x), 0.5), h


class WrongInFloat32(Mutant):
    """A fast path with another result, where float64 has none."""

    def after(self, x: Tensor, state: Any, lengths: Any, y: Tensor, h: Any) -> tuple[Tensor, Any]:
        return (y * 1.01 if x.dtype == torch.float32 else y), h


class WrongGradientInFloat32(Mutant):
    def after(self, x: Tensor, state: Any, lengths: Any, y: Tensor, h: Any) -> tuple[Tensor, Any]:
        return (y + 0.01 * (y - y.detach()) if x.dtype == torch.float32 else y), h


class HidesNan(Mutant):
    def before(self, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        return x.nan_to_num(), state


class SpreadsNan(Mutant):
    """Adds 0 times the mean of all rows, which only NaN gets through."""

    def after(self, x: Tensor, state: Any, lengths: Any, y: Tensor, h: Any) -> tuple[Tensor, Any]:
        return y + 0.0 * x.mean(0, keepdim=True), h


class SqueezesTooMuch(Mutant):
    def after(self, x: Tensor, state: Any, lengths: Any, y: Tensor, h: Any) -> tuple[Tensor, Any]:
        return (y.squeeze(0) if y.shape[:2] == (1, 1) else y), h


class TakesAnyState(Leaky):
    def check_call(self, x: Tensor, state: State, lengths: Tensor | None) -> None:
        pass


class StretchesAStateOfOneRow(Leaky):
    def check_call(self, x: Tensor, state: State, lengths: Tensor | None) -> None:
        super().check_call(x, None if state is not None and len(state) == 1 else state, lengths)


class SaysItGrows(Leaky):
    state_grows = True


class OtherWhenCompiled(Mutant):
    def after(self, x: Tensor, state: Any, lengths: Any, y: Tensor, h: Any) -> tuple[Tensor, Any]:
        return y + 1e-3 * torch.compiler.is_compiling(), h
