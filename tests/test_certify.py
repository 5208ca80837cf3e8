"""Each law catches the mutant that breaks it, and the comparisons notice what is wrong."""

import json
import math
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

import architectures
from architectures import ARCHITECTURES
from architectures.transformer import Transformer
from bench.catalogue import make_body
from bench.certify import report
from bench.certify.finding import Finding, MakeBody, Trial, largest, relative_error, state_error
from bench.certify.laws import LAWS, THOROUGH_LAWS, certify
from bench.certify.robustness import LONG_STREAM_STEPS, long_streams_do_not_drift
from bench.cli import app
from bench.spec import Choice
from tests import decoding_mutants, mutants
from tests.mutants import Leaky

TENTH_OF_A_STREAM = LONG_STREAM_STEPS // 10
CERTIFIED_WIDTH = 16  # even for each of four heads

MUTANTS: list[tuple[type[Leaky], str]] = [
    (mutants.ReturnsOldState, "split_invariance"),
    (mutants.TakesAStateAgainstTime, "split_invariance"),
    (mutants.StateWithoutBatchFirst, "state_size_is_as_stated"),
    (mutants.StateGrowsUnsaid, "state_size_is_as_stated"),
    (mutants.StateIsAViewOfEverything, "state_size_is_as_stated"),
    (mutants.WrongStep, "step_matches_forward"),
    (mutants.Raises, "step_matches_forward"),
    (mutants.MutatesItsState, "state_is_never_mutated"),
    (mutants.CountsItsCalls, "state_is_never_mutated"),
    (mutants.GoesOnFromItsLastCall, "state_is_never_mutated"),
    (mutants.PeeksAhead, "past_ignores_future_values"),
    (mutants.PeeksAhead, "past_ignores_future_gradients"),
    (mutants.PeeksInValueAlone, "past_ignores_future_values"),
    (mutants.PeeksInGradientAlone, "past_ignores_future_gradients"),
    (mutants.NormalisesOverTheBatch, "rows_do_not_mix"),
    (mutants.ReadsTheBatchSize, "rows_do_not_mix"),
    (mutants.PaddingLeaksIntoState, "padding_changes_nothing"),
    (mutants.PaddingTakesTheLastToken, "padding_changes_nothing"),
    (mutants.PaddingLeaksIntoGradient, "padding_changes_nothing"),
    (mutants.WrongGradient, "gradients_match_differences"),
    (mutants.StateWithoutGradient, "gradients_match_in_chunks"),
    (mutants.UnsavedBuffer, "saving_keeps_the_body"),
    (mutants.DriftsLate, "long_streams_do_not_drift"),
    (mutants.GrowsLate, "long_streams_do_not_drift"),
    (mutants.CancelsInHalf, "autocast_stays_near"),
    (mutants.RaisesInHalf, "autocast_stays_near"),
    (mutants.WrongInFloat32, "fast_path_equals_reference"),
    (mutants.WrongGradientInFloat32, "fast_path_equals_reference"),
    (mutants.HidesNan, "nan_shows_and_stays_in_its_row"),
    (mutants.SpreadsNan, "nan_shows_and_stays_in_its_row"),
    (mutants.SqueezesTooMuch, "one_token_and_one_row_are_enough"),
    (mutants.TakesAnyState, "a_state_of_other_rows_is_refused"),
    (mutants.StretchesAStateOfOneRow, "a_state_of_other_rows_is_refused"),
]

# The others break laws besides: whoever peeks ahead cannot be split either.
NARROW: list[type[Leaky]] = [
    mutants.StateIsAViewOfEverything,
    mutants.MutatesItsState,
    mutants.PaddingLeaksIntoState,
    mutants.PaddingTakesTheLastToken,
    mutants.PaddingLeaksIntoGradient,
    mutants.WrongGradient,
    mutants.UnsavedBuffer,
    mutants.DriftsLate,
    mutants.GrowsLate,
    mutants.CancelsInHalf,
    mutants.RaisesInHalf,
    mutants.WrongInFloat32,
    mutants.WrongGradientInFloat32,
    mutants.HidesNan,
    mutants.SpreadsNan,
    mutants.TakesAnyState,
    mutants.StretchesAStateOfOneRow,
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
    assert {law for _, law in [*MUTANTS, *decoding_mutants.MUTANTS]} == set(LAWS)


@pytest.mark.parametrize("mutant", NARROW, ids=lambda mutant: mutant.__name__)
def test_a_narrow_mutant_breaks_no_other_law(mutant: type[Leaky]) -> None:
    assert broken_laws(mutant) == {dict(MUTANTS)[mutant]}


def test_a_wrong_step_shows_in_single_steps_alone() -> None:
    assert broken_laws(mutants.WrongStep) == {"step_matches_forward", "long_streams_do_not_drift"}


def test_a_stream_says_how_many_steps_it_ran() -> None:
    def finding(make_body: MakeBody, n_steps: int) -> Finding:
        device = torch.device("cpu")
        return long_streams_do_not_drift(make_body, torch.float64, device, n_steps=n_steps)

    def bounded() -> Transformer:
        return Transformer(8, layers=1, heads=2, position="learned", max_length=120)

    assert finding(Leaky, 1_000).detail == "1000 steps"
    assert finding(Leaky, 1_000).holds
    assert not finding(mutants.GrowsLate, 1_000).holds
    assert finding(mutants.SaysItGrows, 25_000).detail == "500 steps"
    assert finding(bounded, 1_000).detail == "120 steps, as many as it has positions"
    assert finding(bounded, 1_000).holds


@pytest.mark.slow
def test_the_compiler_is_held_to_the_same() -> None:
    law = THOROUGH_LAWS["compiling_changes_nothing"]
    for body_class, holds in [(Leaky, True), (mutants.OtherWhenCompiled, False)]:
        finding = law(body_class, torch.float64, torch.device("cpu"))
        assert finding.holds is holds, finding


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "options"),
    [("gru", {}), ("mamba", {}), ("transformer", {}), ("s4d", {})],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_thorough_laws_hold_for_one_body_of_each_kind(name: str, options: dict[str, Any]) -> None:
    """One layer and a tenth of the steps; `bench certify --thorough` does all, minutes for hf."""
    choice = Choice(name=name, options={"layers": 1, **options})
    compiling = THOROUGH_LAWS["compiling_changes_nothing"]
    streaming = partial(long_streams_do_not_drift, n_steps=TENTH_OF_A_STREAM)
    laws = {"compiling_changes_nothing": compiling, "long_streams_do_not_drift": streaming}
    findings = certify(name, lambda: make_body(choice, CERTIFIED_WIDTH), laws=laws)
    assert all(finding.holds for finding in findings), report.lines(name, "", findings)


def test_a_law_that_raises_is_broken_and_says_why() -> None:
    (finding,) = [f for f in certify("odd", mutants.Raises) if f.law == "step_matches_forward"]
    assert finding.error == math.inf
    assert "odd raised RuntimeError: out of order" in finding.detail


def found(**errors: float) -> list[Finding]:
    return [Finding(law=law, error=error, bound=1e-10) for law, error in errors.items()]


def test_lines_and_tables_say_what_is_broken() -> None:
    findings = found(split_invariance=3e-16, rows_do_not_mix=math.inf)
    kernel, first, second = report.lines("gru", "aten", findings).splitlines()
    assert kernel.split() == ["gru", "kernel", "aten"]
    assert "holds" in first
    assert "BROKEN" in second
    entries = json.loads(report.as_json({"gru": findings}, {"gru": "aten"}))
    assert [entry["holds"] for entry in entries] == [True, False]
    assert [entry["error"] for entry in entries] == [3e-16, None]
    page = report.as_markdown({"gru": findings}, {"gru": "aten"})
    assert "1 of 2, broken: `rows_do_not_mix` |" in page
    assert "| <= 1e-12 | 1e-10 |" in page
    assert "| inf | 1e-10 |" in page


def test_the_page_does_not_know_the_last_bits() -> None:
    errors = (2e-16, 7e-16, 9e-13)
    pages = {report.as_markdown({"gru": found(rows_do_not_mix=e)}, {"gru": ""}) for e in errors}
    assert len(pages) == 1
    assert report.rounded(found(rows_do_not_mix=3e-11)) == "<= 1e-10"
    assert report.rounded(found(rows_do_not_mix=0.0)) == "0"
    assert report.rounded(found(rows_do_not_mix=math.nan)) == "nan"


def test_a_broken_law_is_exit_code_1(monkeypatch: pytest.MonkeyPatch) -> None:
    # A new name: the options of one that a test has used before are remembered.
    monkeypatch.setitem(ARCHITECTURES, "wrong_step", mutants.WrongStep)
    done = CliRunner().invoke(app, ["certify", "wrong_step"])
    assert done.exit_code == 1
    assert done.stdout.count("BROKEN") == 2


@pytest.mark.slow
def test_the_page_of_the_architectures_is_not_stale() -> None:
    names = list(ARCHITECTURES)
    device = torch.device("cpu")
    certified = dict(report.certificates(names, dtype=torch.float64, device=device))
    written = (Path(architectures.__file__).parent / "README.md").read_text()
    kernels = {name: report.kernel(name, dtype=torch.float32, device=device) for name in names}
    assert written == report.as_markdown(certified, kernels) + "\n", report.COMMAND


@pytest.mark.slow
@pytest.mark.parametrize("kernels", ["native", "reference"])
def test_the_laws_hold_on_either_kernels(kernels: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In float32, where native code runs."""
    monkeypatch.setenv("SEQBENCH_KERNELS", kernels)
    device = torch.device("cpu")
    for name, findings in report.certificates(
        ["gru", "mamba", "rwkv4"], dtype=torch.float32, device=device
    ):
        broken = [finding for finding in findings if not finding.holds]
        assert not broken, (name, broken)
        (fast,) = [finding for finding in findings if finding.law == "fast_path_equals_reference"]
        assert ("native" in fast.detail) == (kernels == "native"), name


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
