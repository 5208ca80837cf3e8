"""Each law catches the mutant that breaks it, and the comparisons notice what is wrong."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from typer.testing import CliRunner

import architectures
from architectures import ARCHITECTURES
from architectures.body import Body, State, real_positions
from bench.certify import report
from bench.certify.finding import Finding, Trial, largest, relative_error, state_error
from bench.certify.laws import LAWS, THOROUGH_LAWS, certify
from bench.certify.robustness import long_streams_do_not_drift
from bench.cli import app

WIDTH = 5


class Leaky(Body):
    """A right body to be mutated: h_t = decay h_{t-1} + W x_t, y = h. State: h (B, D)."""

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


class ReturnsOldState(Leaky):
    def forward(
        self, x: Tensor, state: State = None, *, lengths: Tensor | None = None
    ) -> tuple[Tensor, State]:
        y, new_state = super().forward(x, state, lengths=lengths)
        return y, torch.zeros_like(new_state) if state is None else state


class PeeksAhead(Leaky):
    def forward(
        self, x: Tensor, state: State = None, *, lengths: Tensor | None = None
    ) -> tuple[Tensor, State]:
        y, new_state = super().forward(x, state, lengths=lengths)
        return y + 1e-3 * x.roll(-1, dims=1), new_state


class PeeksInValueAlone(Leaky):
    """Reads the next token behind a detach, which gradients do not show."""

    def forward(
        self, x: Tensor, state: State = None, *, lengths: Tensor | None = None
    ) -> tuple[Tensor, State]:
        y, new_state = super().forward(x, state, lengths=lengths)
        return y + 1e-3 * x.roll(-1, dims=1).detach(), new_state


class PeeksInGradientAlone(Leaky):
    """Adds 0 times the next token forwards, and lets its gradient through backwards."""

    def forward(
        self, x: Tensor, state: State = None, *, lengths: Tensor | None = None
    ) -> tuple[Tensor, State]:
        y, new_state = super().forward(x, state, lengths=lengths)
        ahead = x.roll(-1, dims=1)
        return y + (ahead - ahead.detach()), new_state


class NormalisesOverTheBatch(Leaky):
    def __init__(self, width: int = WIDTH) -> None:
        super().__init__(width)
        self.norm = nn.BatchNorm1d(width, track_running_stats=False)

    def forward(
        self, x: Tensor, state: State = None, *, lengths: Tensor | None = None
    ) -> tuple[Tensor, State]:
        y, new_state = super().forward(x, state, lengths=lengths)
        return self.norm(y.transpose(1, 2)).transpose(1, 2), new_state


class AlmostIdentity(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return 1.001 * gradient


class WrongGradient(Leaky):
    def forward(
        self, x: Tensor, state: State = None, *, lengths: Tensor | None = None
    ) -> tuple[Tensor, State]:
        return super().forward(AlmostIdentity.apply(x), state, lengths=lengths)


class StateWithoutGradient(Leaky):
    def forward(
        self, x: Tensor, state: State = None, *, lengths: Tensor | None = None
    ) -> tuple[Tensor, State]:
        incoming = None if state is None else state.detach()
        return super().forward(x, incoming, lengths=lengths)


class MutatesItsState(Leaky):
    def forward(
        self, x: Tensor, state: State = None, *, lengths: Tensor | None = None
    ) -> tuple[Tensor, State]:
        y, new_state = super().forward(x, state, lengths=lengths)
        if state is not None and not torch.is_grad_enabled():
            state.copy_(new_state)
            return y, state
        return y, new_state


class RemembersOnItself(Leaky):
    """Keeps the number of its calls where no state shows it."""

    calls = 0

    def forward(
        self, x: Tensor, state: State = None, *, lengths: Tensor | None = None
    ) -> tuple[Tensor, State]:
        self.calls += 1
        y, new_state = super().forward(x, state, lengths=lengths)
        return y + 1e-3 * self.calls, new_state


class PaddingLeaksIntoState(Leaky):
    def forward(
        self, x: Tensor, state: State = None, *, lengths: Tensor | None = None
    ) -> tuple[Tensor, State]:
        return super().forward(x, state)


class PaddingLeaksIntoGradient(Leaky):
    def forward(
        self, x: Tensor, state: State = None, *, lengths: Tensor | None = None
    ) -> tuple[Tensor, State]:
        y, new_state = super().forward(x, state, lengths=lengths)
        if lengths is None:
            return y, new_state
        padding = x * ~real_positions(lengths, x.shape[1]).unsqueeze(2)
        total = padding.sum(1, keepdim=True)
        return y + (total - total.detach()), new_state


class StateGrowsUnsaid(Leaky):
    def forward(
        self, x: Tensor, state: State = None, *, lengths: Tensor | None = None
    ) -> tuple[Tensor, State]:
        h, seen = (None, x[:, :0]) if state is None else state
        y, new_state = super().forward(x, h, lengths=lengths)
        return y, (new_state, torch.cat([seen, x], dim=1))


class StateWithoutBatchFirst(Leaky):
    def forward(
        self, x: Tensor, state: State = None, *, lengths: Tensor | None = None
    ) -> tuple[Tensor, State]:
        y, new_state = super().forward(x, None if state is None else state.t(), lengths=lengths)
        return y, new_state.t()


class StateIsAViewOfEverything(Leaky):
    def forward(
        self, x: Tensor, state: State = None, *, lengths: Tensor | None = None
    ) -> tuple[Tensor, State]:
        y, new_state = super().forward(x, state, lengths=lengths)
        return y, torch.cat([y, new_state.unsqueeze(1)], dim=1)[:, -1]


class WrongStep(Leaky):
    def step(self, x_t: Tensor, state: State = None) -> tuple[Tensor, State]:
        y, new_state = super().step(x_t, state)
        return y + 1e-6, new_state


class UnsavedWeight(Leaky):
    def __init__(self, width: int = WIDTH) -> None:
        super().__init__(width)
        self.register_buffer("scale", torch.rand(width), persistent=False)

    def forward(
        self, x: Tensor, state: State = None, *, lengths: Tensor | None = None
    ) -> tuple[Tensor, State]:
        return super().forward(x * self.scale, state, lengths=lengths)


class TakesAStateAgainstTime(Leaky):
    causal = False


class Raises(Leaky):
    def step(self, x_t: Tensor, state: State = None) -> tuple[Tensor, State]:
        raise RuntimeError("out of order")


class DriftsLate(Leaky):
    """Loses a little of its state at each token after the 150th."""

    def forward(
        self, x: Tensor, state: State = None, *, lengths: Tensor | None = None
    ) -> tuple[Tensor, State]:
        h, seen = (None, x.new_zeros(x.shape[0])) if state is None else state
        y, new_h = super().forward(x, h, lengths=lengths)
        n_new = x.shape[1] if lengths is None else lengths
        if x.shape[1] == 1 and float(seen.min()) > 150:
            new_h = 0.999 * new_h
        return y, (new_h, seen + n_new)


class GrowsLate(Leaky):
    """Begins to keep its inputs after the 150th token."""

    def forward(
        self, x: Tensor, state: State = None, *, lengths: Tensor | None = None
    ) -> tuple[Tensor, State]:
        nothing = x.new_zeros(x.shape[0])
        h, seen, kept = (None, nothing, nothing.clone()) if state is None else state
        y, new_h = super().forward(x, h, lengths=lengths)
        n_new = x.shape[1] if lengths is None else lengths
        if float(seen.min()) > 150:
            kept = torch.cat([kept.view(len(x), -1), x[:, 0]], dim=1)
        return y, (new_h, seen + n_new, kept)


class CancelsInHalf(Leaky):
    def forward(
        self, x: Tensor, state: State = None, *, lengths: Tensor | None = None
    ) -> tuple[Tensor, State]:
        y, new_state = super().forward(x, state, lengths=lengths)
        far = torch.full_like(x, 300.0)
        return y + self.project(x + far) - self.project(far), new_state


class HidesNan(Leaky):
    def forward(
        self, x: Tensor, state: State = None, *, lengths: Tensor | None = None
    ) -> tuple[Tensor, State]:
        return super().forward(x.nan_to_num(), state, lengths=lengths)


class SpreadsNan(Leaky):
    """Adds 0 times the mean of all rows, which only NaN gets through."""

    def forward(
        self, x: Tensor, state: State = None, *, lengths: Tensor | None = None
    ) -> tuple[Tensor, State]:
        y, new_state = super().forward(x, state, lengths=lengths)
        return y + 0.0 * x.mean(0, keepdim=True), new_state


class SqueezesTooMuch(Leaky):
    def forward(
        self, x: Tensor, state: State = None, *, lengths: Tensor | None = None
    ) -> tuple[Tensor, State]:
        y, new_state = super().forward(x, state, lengths=lengths)
        return (y.squeeze(0) if y.shape[:2] == (1, 1) else y), new_state


class TakesAnyState(Leaky):
    def check_call(self, x: Tensor, state: State, lengths: Tensor | None) -> None:
        pass


class StretchesAStateOfOneRow(Leaky):
    def check_call(self, x: Tensor, state: State, lengths: Tensor | None) -> None:
        super().check_call(x, None if state is not None and len(state) == 1 else state, lengths)


class SaysItGrows(Leaky):
    state_grows = True


class OtherWhenCompiled(Leaky):
    def forward(
        self, x: Tensor, state: State = None, *, lengths: Tensor | None = None
    ) -> tuple[Tensor, State]:
        y, new_state = super().forward(x, state, lengths=lengths)
        return y + 1e-3 * torch.compiler.is_compiling(), new_state


MUTANTS: list[tuple[type[Leaky], str]] = [
    (ReturnsOldState, "split_invariance"),
    (StateWithoutBatchFirst, "state_size_is_as_stated"),
    (StateGrowsUnsaid, "state_size_is_as_stated"),
    (StateIsAViewOfEverything, "state_size_is_as_stated"),
    (WrongStep, "step_matches_forward"),
    (Raises, "step_matches_forward"),
    (MutatesItsState, "state_is_never_mutated"),
    (RemembersOnItself, "state_is_never_mutated"),
    (PeeksAhead, "past_ignores_future_values"),
    (PeeksAhead, "past_ignores_future_gradients"),
    (PeeksInValueAlone, "past_ignores_future_values"),
    (PeeksInGradientAlone, "past_ignores_future_gradients"),
    (NormalisesOverTheBatch, "rows_do_not_mix"),
    (PaddingLeaksIntoState, "padding_changes_nothing"),
    (PaddingLeaksIntoGradient, "padding_changes_nothing"),
    (WrongGradient, "gradients_match_differences"),
    (StateWithoutGradient, "gradients_match_in_chunks"),
    (UnsavedWeight, "saving_keeps_the_body"),
    (TakesAStateAgainstTime, "split_invariance"),
    (DriftsLate, "long_streams_do_not_drift"),
    (GrowsLate, "long_streams_do_not_drift"),
    (CancelsInHalf, "autocast_stays_near"),
    (HidesNan, "nan_shows_and_stays_in_its_row"),
    (SpreadsNan, "nan_shows_and_stays_in_its_row"),
    (SqueezesTooMuch, "one_token_and_one_row_are_enough"),
    (TakesAnyState, "a_state_of_other_rows_is_refused"),
    (StretchesAStateOfOneRow, "a_state_of_other_rows_is_refused"),
]


def broken_laws(body_class: type[Leaky]) -> set[str]:
    return {finding.law for finding in certify("mutant", body_class) if not finding.holds}


def test_a_right_body_keeps_every_law() -> None:
    assert broken_laws(Leaky) == set()


@pytest.mark.parametrize(
    ("mutant", "law"), MUTANTS, ids=lambda value: getattr(value, "__name__", value)
)
def test_a_mutant_is_caught_by_the_law_meant_for_it(mutant: type[Leaky], law: str) -> None:
    assert law in broken_laws(mutant)


def test_every_law_has_a_mutant() -> None:
    assert {law for _, law in MUTANTS} == set(LAWS)


@pytest.mark.parametrize(
    ("mutant", "law"),
    [
        (UnsavedWeight, "saving_keeps_the_body"),
        (DriftsLate, "long_streams_do_not_drift"),
        (GrowsLate, "long_streams_do_not_drift"),
        (CancelsInHalf, "autocast_stays_near"),
        (SpreadsNan, "nan_shows_and_stays_in_its_row"),
        (StretchesAStateOfOneRow, "a_state_of_other_rows_is_refused"),
    ],
)
def test_a_narrow_mutant_breaks_no_other_law(mutant: type[Leaky], law: str) -> None:
    assert broken_laws(mutant) == {law}


def test_a_wrong_step_shows_in_single_steps_alone() -> None:
    assert broken_laws(WrongStep) == {"step_matches_forward", "long_streams_do_not_drift"}


def test_a_stream_says_how_many_steps_it_ran() -> None:
    def finding(body_class: type[Leaky], n_steps: int) -> Any:
        device = torch.device("cpu")
        return long_streams_do_not_drift(body_class, torch.float64, device, n_steps=n_steps)

    assert finding(Leaky, 1_000).detail == "1000 steps"
    assert finding(Leaky, 1_000).holds
    assert not finding(GrowsLate, 1_000).holds
    assert finding(SaysItGrows, 25_000).detail == "500 steps"


@pytest.mark.slow
def test_the_compiler_is_held_to_the_same() -> None:
    law = THOROUGH_LAWS["compiling_changes_nothing"]
    for body_class, holds in [(Leaky, True), (OtherWhenCompiled, False)]:
        finding = law(body_class, torch.float64, torch.device("cpu"))
        assert finding.holds is holds, finding


def test_a_law_that_raises_is_broken_and_says_why() -> None:
    (finding,) = [f for f in certify("odd", Raises) if f.law == "step_matches_forward"]
    assert finding.error == math.inf
    assert "odd raised RuntimeError: out of order" in finding.detail


def found(**errors: float) -> list[Finding]:
    return [Finding(law=law, error=error, bound=1e-10) for law, error in errors.items()]


def test_lines_and_tables_say_what_is_broken() -> None:
    findings = found(split_invariance=3e-16, rows_do_not_mix=math.inf)
    first, second = report.lines("gru", findings).splitlines()
    assert "holds" in first
    assert "BROKEN" in second
    entries = json.loads(report.as_json({"gru": findings}))
    assert [entry["holds"] for entry in entries] == [True, False]
    assert [entry["error"] for entry in entries] == [3e-16, None]
    page = report.as_markdown({"gru": findings})
    assert "1 of 2, broken: `rows_do_not_mix` |" in page
    assert "| <= 1e-12 | 1e-10 |" in page
    assert "| inf | 1e-10 |" in page


def test_the_page_does_not_know_the_last_bits() -> None:
    pages = {report.as_markdown({"gru": found(rows_do_not_mix=e)}) for e in (2e-16, 7e-16, 9e-13)}
    assert len(pages) == 1
    assert report.rounded(found(rows_do_not_mix=3e-11)) == "<= 1e-10"
    assert report.rounded(found(rows_do_not_mix=0.0)) == "0"
    assert report.rounded(found(rows_do_not_mix=math.nan)) == "nan"


def test_a_broken_law_is_exit_code_1(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ARCHITECTURES, "gru", WrongStep)
    done = CliRunner().invoke(app, ["certify", "gru"])
    assert done.exit_code == 1
    assert done.stdout.count("BROKEN") == 2


@pytest.mark.slow
def test_the_page_of_the_architectures_is_not_stale() -> None:
    names = list(ARCHITECTURES)
    device = torch.device("cpu")
    certified = dict(report.certificates(names, dtype=torch.float64, device=device))
    written = (Path(architectures.__file__).parent / "README.md").read_text()
    assert written == report.as_markdown(certified) + "\n", report.COMMAND


def test_relative_error_sees_what_is_wrong() -> None:
    expected = torch.tensor([1.0, -4.0])
    assert relative_error(expected, expected) == 0.0
    assert relative_error(expected + torch.tensor([0.0, 0.4]), expected) == pytest.approx(0.1)
    assert relative_error(-expected, expected) == 2.0
    assert relative_error(expected[:1], expected) == math.inf
    assert math.isnan(relative_error(torch.tensor([1.0, math.nan]), expected))


def test_state_error_sees_a_missing_tensor() -> None:
    state = (torch.ones(2), [torch.ones(2), None])
    assert state_error(state, state) == 0.0
    assert state_error((torch.ones(2),), state) == math.inf


def test_nan_is_never_the_smaller_error() -> None:
    assert math.isnan(largest([0.0, math.nan, 1.0]))


def test_a_trial_leaves_the_global_generator_alone() -> None:
    before = torch.get_rng_state()
    Trial(Leaky, torch.float64, torch.device("cpu"))
    assert torch.equal(torch.get_rng_state(), before)
