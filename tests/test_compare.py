"""Two studies side by side: what is a difference, what is lost, and what CI is told."""

from __future__ import annotations

import pytest

from bench import cli
from bench.commands import comparison
from bench.errors import UserError
from bench.records.tidy import tidy
from bench.report import comparison_tables
from bench.report.comparison import COARSE_BYTES, EXACT_BYTES, compare
from tests import synthetic


def trained(scores, *, task="mqar", first_seed=0, **more):
    """Rows of one cell, a seed for each score; None is a run that diverged."""
    rows = []
    for seed, score in enumerate(scores, first_seed):
        run = synthetic.run(task=task, seed=seed, **more)
        if score is None:
            rows.append(synthetic.row(run, "diverged"))
        else:
            metrics = {"test_score": score, "val_score": score}
            rows.append(synthetic.row(run, metrics=metrics))
    return rows


def timed(speed=1000.0, *, error=0.01, floor=1.01, status="ok", **more):
    """The row of a measured cell."""
    run = synthetic.measuring(length=more.pop("length", 128))
    if status != "ok":
        return [synthetic.row(run, status)]
    provenance = {**synthetic.PROVENANCE, **more.pop("provenance", {})}
    kernel = more.pop("kernel", "onednn")
    metrics = {
        "train_tokens_per_s": speed,
        "train_tokens_per_s_low": speed * (1 - error),
        "train_tokens_per_s_high": speed * (1 + error),
        "noise_floor": floor,
        "tokens_per_batch": 1024,
    }
    return [synthetic.row(run, metrics={**metrics, **more}, kernel=kernel, provenance=provenance)]


def only(before, after, **more):
    (found,) = compare(tidy(before), tidy(after), **more).changes
    return found


@pytest.mark.parametrize(("task", "verdict"), [("mqar", "worse"), ("adding", "better")])
def test_a_lower_score_is_worse_or_better_as_the_metric_says(task, verdict):
    before, after = [0.90, 0.91, 0.92], [0.80, 0.81, 0.83]
    found = only(trained(before, task=task), trained(after, task=task))
    assert found.verdict == verdict
    assert found.change == pytest.approx(-0.29 / 2.73)
    assert found.low < found.change < found.high < 0


def test_seeds_that_disagree_are_no_difference():
    found = only(trained([0.8, 0.9, 0.7]), trained([0.9, 0.7, 0.85]))
    assert found.verdict == "no difference"
    assert found.low < 0 < found.high


def test_the_same_rows_are_no_difference_at_all():
    rows = [*trained([0.8, 0.9, 0.7]), *timed()]
    found = compare(tidy(rows), tidy(rows))
    assert {one.verdict for one in found.changes} == {"no difference"}
    assert all(one.change == 0 for one in found.changes)
    assert found.regressions(0.0) == []


def test_seeds_are_paired_where_they_can_be():
    """What a seed does to both is no noise of the difference."""
    before, after = [0.1, 0.5, 0.9], [0.11, 0.515, 0.912]
    assert only(trained(before), trained(after)).verdict == "better"
    other = only(trained(before), trained(after, first_seed=7))
    assert other.verdict == "no difference"
    assert other.remark == "other seeds"


def test_two_seeds_with_a_common_direction_are_not_yet_a_difference():
    """Half of all pairs of unchanged seeds do that: their range is no interval."""
    assert only(trained([0.80, 0.81]), trained([0.79, 0.75])).verdict == "no difference"


def test_one_seed_decides_nothing_and_says_so():
    found = only(trained([0.9]), trained([0.1]))
    assert found.verdict == "undecided"
    assert found.remark == "one seed: no interval"
    assert found.low is None


@pytest.mark.parametrize(
    ("after", "floor", "verdict"),
    [
        (950.0, 1.0, "no difference"),
        (910.0, 1.0, "no difference"),  # a ratio of 1.099
        (900.0, 1.0, "worse"),  # 1.11
        (1120.0, 1.0, "better"),
        (800.0, 1.1, "no difference"),  # 1.25, of 1.3
        (700.0, 1.1, "worse"),
    ],
)
def test_a_speed_has_to_differ_by_more_than_noise(after, floor, verdict):
    assert only(timed(), timed(after, floor=floor)).verdict == verdict
    assert only(timed(floor=floor), timed(after)).verdict == verdict


@pytest.mark.parametrize(
    ("after", "verdict"),
    [(760.0, "no difference"), (730.0, "worse"), (1100.0, "no difference"), (1400.0, "better")],
)
def test_a_speed_has_to_differ_by_more_than_the_machine_itself(after, verdict):
    found = only(timed(reference_ms=1.0), timed(after, reference_ms=1.2))
    assert found.verdict == verdict
    assert found.remark == "the machine was 1.20x slower in the second"
    back = only(timed(after, reference_ms=1.2), timed(reference_ms=1.0))
    assert back.remark == "the machine was 1.20x slower in the first"
    assert not only(timed(reference_ms=1.0), timed(after, reference_ms=1.01)).remark


def test_another_machine_is_no_drift_of_one():
    other = timed(850.0, reference_ms=2.0, provenance={"processor": "Other 1"})
    found = only(timed(reference_ms=1.0), other, across=True)
    assert found.verdict == "worse"
    assert not found.remark


def test_a_speed_whose_interval_holds_no_change_is_no_difference():
    found = only(timed(error=0.3), timed(800.0, error=0.3))
    assert found.low < 0 < found.high
    assert found.verdict == "no difference"


def test_another_kernel_is_remarked_and_another_batch_not_compared():
    assert "kernel onednn and reference" in only(timed(), timed(500, kernel="reference")).remark
    found = only(timed(), timed(500.0, tokens_per_batch=2048))
    assert found.verdict == "undecided"
    assert found.change is None
    assert "batches" in found.remark


def memory(value, method):
    return timed(
        train_tokens_per_s=None,
        train_tokens_per_s_low=None,
        peak_bytes=int(value),
        memory_method=method,
    )


@pytest.mark.parametrize(
    ("method", "gap", "verdict"),
    [
        ("malloc-counter", 0.9 * EXACT_BYTES, "no difference"),
        ("malloc-counter", 1.1 * EXACT_BYTES, "worse"),
        ("resident", 0.9 * COARSE_BYTES, "no difference"),
        (None, 0.9 * COARSE_BYTES, "no difference"),
        ("resident", 1.1 * COARSE_BYTES, "worse"),
        ("malloc-counter", -1.1 * EXACT_BYTES, "better"),
    ],
)
def test_memory_has_to_differ_by_more_than_it_is_exact_to(method, gap, verdict):
    base = 5e6
    assert only(memory(base, method), memory(base + gap, method)).verdict == verdict


def test_memory_of_two_methods_is_not_compared():
    found = only(memory(1e6, "resident"), memory(9e6, "malloc-counter"))
    assert (found.verdict, found.change) == ("undecided", None)


def test_what_is_lost_missing_or_new_is_listed():
    before = [*trained([0.9, 0.9]), *timed(), *timed(length=256)]
    after = [*trained([None, None]), *timed(status="oom"), *timed(length=512)]
    found = compare(tidy(before), tidy(after)).changes
    told = {(one.length, one.quantity.column): (one.verdict, one.remark) for one in found}
    assert told == {
        (128, "score"): ("lost", "2 diverged; 1 oom in measuring"),
        (128, "train_tokens_per_s"): ("lost", "2 diverged; 1 oom in measuring"),
        (256, "train_tokens_per_s"): ("only before", "the cell is in the first study alone"),
        (512, "train_tokens_per_s"): ("only after", "the cell is in the second study alone"),
    }
    back = {one.verdict for one in compare(tidy(after), tidy(before)).changes}
    assert back == {"gained", "only before", "only after"}


def test_what_was_not_measured_again_is_not_lost():
    found = compare(tidy([*trained([0.9, 0.9]), *timed()]), tidy(trained([0.9, 0.9])))
    assert found.changes[1].verdict == "only before"
    assert found.regressions(0.0) == []


def test_a_regression_is_worse_by_more_than_is_allowed():
    found = compare(tidy(timed()), tidy(timed(800.0)))
    assert len(found.regressions(0.19)) == 1
    assert found.regressions(0.21) == []
    assert compare(tidy(timed()), tidy(timed(1500.0))).regressions(0.0) == []
    lost = compare(tidy(timed()), tidy(timed(status="oom")))
    assert len(lost.regressions(0.99)) == 1


def test_a_score_that_was_0_and_became_worse_is_a_regression():
    before = trained([0.0, 0.0, 0.0], task="adding")
    found = compare(tidy(before), tidy(trained([0.1, 0.11, 0.12], task="adding")))
    assert len(found.regressions(0.5)) == 1
    assert "from 0" in comparison_tables.render(found, ("a", "b"), "md")


def test_two_machines_are_compared_only_when_asked():
    other = timed(500.0, provenance={"processor": "Other 1"})
    with pytest.raises(UserError, match="--across"):
        compare(tidy(timed()), tidy(other))
    found = compare(tidy(timed()), tidy(other), across=True)
    text = comparison_tables.render(found, ("a", "b"), "md")
    assert "**warning:** speeds and memory are of different machines" in text


def test_no_rows_and_nothing_in_common_are_told():
    empty = compare(tidy([]), tidy([]))
    assert "Neither study has a number" in comparison_tables.render(empty, ("a", "b"), "md")
    (header,) = comparison_tables.render(empty, ("a", "b"), "csv").splitlines()
    assert header.startswith("task,length,architecture,quantity,")
    assert {one.verdict for one in compare(tidy(timed()), tidy([])).changes} == {"only before"}


def test_hostile_names_stay_text():
    run = synthetic.run({"name": "lstm", "label": "<b>a|b\n`c`"}, {"name": "mqar", "label": "|"})
    found = compare(tidy([synthetic.row(run)]), tidy([synthetic.row(run)]))
    text = comparison_tables.render(found, ("<i>", "b|c"), "md")
    assert text.startswith(r"# From \<i> to b\|c")
    assert r"\<b>a\|b \`c\`" in text


@pytest.mark.parametrize("form", ["md", "csv"])
@pytest.mark.parametrize(
    ("speed", "share", "code"), [(800.0, "5%", 1), (800.0, "30%", 0), (990.0, "0%", 0)]
)
def test_ci_is_told_by_the_exit_code(monkeypatch, capsys, tmp_path, form, speed, share, code):
    frames = {"a": tidy(timed()), "b": tidy(timed(speed))}
    monkeypatch.setattr(comparison, "frame_of", lambda folder: frames[folder.name])
    words = ["compare", "a", "b", "--fail-on-regression", share, "--format", form]
    assert (cli.app(words, standalone_mode=False) or 0) == code
    said = capsys.readouterr()
    assert ("1 regression beyond 5%" in said.out + said.err) == (code == 1)
    if form == "csv":
        assert said.out.count("\n") == 2
    assert not cli.app(words[:3], standalone_mode=False)


@pytest.mark.parametrize("text", ["5", "five", "-5%", "5 %%"])
def test_a_share_is_a_percentage(text):
    with pytest.raises(UserError, match="as in 5%"):
        comparison._share(text)


def test_pairs_of_a_study_are_printed_and_unknown_names_named(monkeypatch, capsys):
    rows = [
        synthetic.row(
            synthetic.run(name, seed=seed),
            metrics={"test_score": base + seed / 100, "val_score": base},
        )
        for name, base in (("lstm", 0.8), ("gru", 0.5), ("rnn", 0.5))
        for seed in range(8)
    ]
    monkeypatch.setattr(comparison, "frame_of", lambda folder: tidy(rows))
    cli.app(["pairs", "x"], standalone_mode=False)
    text = capsys.readouterr().out
    assert text.count("lstm is better") == 2
    assert text.count("no evidence of a difference") == 1
    assert "all 3 pairs" in text
    cli.app(["pairs", "x", "gru", "rnn", "--task", "mqar", "-f", "csv"], standalone_mode=False)
    assert capsys.readouterr().out.count("\n") == 2
    with pytest.raises(UserError, match="did you mean 'lstm'"):
        cli.app(["pairs", "x", "lstn"], standalone_mode=False)
