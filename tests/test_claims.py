"""Claims: a verdict is what the rows say, and says nothing where they say nothing."""

import json

import pytest
from typer.testing import CliRunner

from bench import cli
from bench.records.expected import complete
from bench.records.store import Store
from bench.report.claim_effects import _wilson
from bench.report.claim_file import SHIPPED, read
from bench.report.claims import as_json, as_markdown, as_text, judge
from tests import synthetic
from tests.claimed import (
    BETTER,
    LEVEL,
    clipped,
    file_of,
    judged,
    measured,
    scored,
    series,
    speed,
)


@pytest.mark.parametrize(
    ("values", "verdict", "why"),
    [
        ((0.90, 0.92, 0.94), "supported", ""),
        ((0.50, 0.52, 0.54), "refuted", ""),
        ((0.60, 0.75, 0.90), "undecided", "reaches across"),
        ((0.90, 0.92), "undecided", "2 of the 3 that are needed"),
        ((0.90,), "undecided", "1 of the 3"),
    ],
)
def test_the_whole_interval_decides(tmp_path, values, verdict, why):
    found = judged(tmp_path, scored("lstm", values), LEVEL)
    (finding,) = found.findings
    assert (found.verdict, finding.effect.n) == (verdict, len(values))
    assert finding.effect.value == pytest.approx(sum(values) / len(values))
    assert why in finding.why
    assert len(finding.effect.rows) == len(values)


def test_one_row_without_an_interval_decides_nothing(tmp_path):
    found = judged(tmp_path, scored("lstm", [0.9]), LEVEL.replace("min_n: 3", "min_n: 1"))
    assert "no interval" in found.findings[0].why


@pytest.mark.parametrize(
    ("lstm", "rnn", "verdict"),
    [
        ((0.9, 0.6, 0.7), (0.8, 0.5, 0.6), "supported"),  # in every seed, though the means mix
        ((0.8, 0.5, 0.6), (0.9, 0.6, 0.7), "refuted"),
        ((0.9, 0.5, 0.6), (0.8, 0.6, 0.6), "undecided"),
    ],
)
def test_seeds_are_paired(tmp_path, lstm, rnn, verdict):
    rows = scored("lstm", lstm) + scored("rnn", rnn)
    found = judged(tmp_path, rows, BETTER)
    assert (found.verdict, found.findings[0].effect.n) == (verdict, 3)


def test_a_cell_that_ended_badly_is_never_left_out_of_a_mean(tmp_path):
    rows = scored("lstm", (0.9, 0.9, 0.9, 0.9))
    rows[3] = (rows[3][0], {"status": "diverged"})
    (finding,) = judged(tmp_path, rows, LEVEL).findings
    assert finding.verdict == "undecided"
    assert "1 diverged of 4 runs" in finding.why
    assert "bench retry" in finding.remedies[0]
    assert "diverged" in finding.remedies[0]


def test_ties_are_no_support(tmp_path):
    rows = scored("lstm", (0.5, 0.6, 0.7)) + scored("rnn", (0.5, 0.6, 0.7))
    (finding,) = judged(tmp_path, rows, BETTER).findings
    assert (finding.effect.low, finding.effect.high) == (0.0, 0.0)
    assert finding.verdict == "refuted"


def test_three_seeds_of_one_direction_are_not_yet_support(tmp_path):
    """A coin gives three heads in one of eight throws."""
    rows = scored("lstm", (0.6, 0.7, 0.9)) + scored("rnn", (0.59, 0.6, 0.6))
    (finding,) = judged(tmp_path, rows, BETTER).findings
    assert finding.effect.low < 0 < finding.effect.value
    assert finding.verdict == "undecided"


def test_many_lengths_of_one_seed_are_one_seed(tmp_path):
    rows = [row for length in (64, 128, 256) for row in scored("lstm", (0.9,), length=length)]
    (finding,) = judged(tmp_path, rows, LEVEL).findings
    assert finding.verdict == "undecided"
    assert "3 cells of one seed" in finding.why
    (tmp_path / "more").mkdir()
    rows += [row for length in (64, 128) for row in scored("lstm", (0.9, 0.91), length=length)]
    assert judged(tmp_path / "more", dict_of(rows), LEVEL).verdict == "supported"


def dict_of(rows):
    """Each run once."""
    return list({run.id: (run, changes) for run, changes in rows}.values())


def test_several_settings_are_the_one_that_val_chose(tmp_path):
    rows = []
    for rate, value in ((0.001, 0.5), (0.01, 0.9)):
        training = {"steps": 300, "learning_rate": rate}
        rows += scored("lstm", (value, value + 0.01, value + 0.02), training=training)
    (finding,) = judged(tmp_path, rows, LEVEL).findings
    assert (finding.verdict, finding.effect.n) == ("supported", 3)


def test_two_architectures_under_one_pattern_are_told(tmp_path):
    rows = scored("lstm", (0.9, 0.9, 0.9))
    rows += scored({"name": "lstm", "layers": 3}, (0.8, 0.8, 0.8))
    (finding,) = judged(tmp_path, rows, LEVEL).findings
    assert finding.verdict == "undecided"
    assert "several architectures, lstm, lstm(layers=3)" in finding.why
    one = LEVEL.replace("architecture: lstm", "architecture: {name: lstm}")
    (tmp_path / "again").mkdir()
    assert judged(tmp_path / "again", rows, one).verdict == "supported"


@pytest.mark.parametrize(
    ("without", "verdict"), [(6, "supported"), (2, "undecided"), (0, "undecided")]
)
def test_shares_of_outcomes_are_compared_with_newcombes_interval(tmp_path, without, verdict):
    rows = clipped(without, 6, None) + clipped(0, 6, 1.0)
    evidence = (
        "{metric: status, share_of: diverged, group: {training.clip_norm: null}, "
        "against: {training.clip_norm: 1.0}, above: 0, min_n: 5}"
    )
    (finding,) = judged(tmp_path, rows, evidence).findings
    assert finding.verdict == verdict
    assert finding.effect.value == pytest.approx(without / 6)


def test_a_share_leaves_out_no_run(tmp_path):
    rows = clipped(6, 6, None) + clipped(0, 6, 1.0)
    evidence = (
        "{metric: status, share_of: diverged, group: {training.clip_norm: null}, "
        "against: {training.clip_norm: 1.0}, above: 0, min_n: 5}"
    )
    (finding,) = judged(tmp_path, rows[:-1], evidence, missing=[rows[-1][0]]).findings
    assert (finding.verdict, finding.effect.missing) == (
        "undecided",
        "{training.clip_norm: 1.0}: 1 missing of 6 runs",
    )
    assert finding.remedies == (f"run what is missing: bench sweep {tmp_path}",)


@pytest.mark.parametrize(
    ("changes", "why"),
    [({"status": "oom"}, "1 oom of 3 runs"), ({"metrics": {}}, "1 without memory_method of 3")],
)
def test_a_share_of_words_is_of_rows_that_all_have_one(tmp_path, changes, why):
    rows = [measured("lstm", length, memory_method="malloc") for length in (64, 128, 256)]
    rows[1] = (rows[1][0], changes)
    evidence = (
        "{metric: memory_method, share_of: malloc, group: {architecture: lstm}, "
        "above: 0.9, exact: true}"
    )
    (finding,) = judged(tmp_path, rows, evidence).findings
    assert (finding.verdict, finding.effect.value) == ("undecided", None)
    assert why in finding.why


def test_wilsons_interval_is_the_published_one():
    from scipy.stats import binomtest

    for k, n in ((0, 6), (3, 7), (6, 6)):
        expected = binomtest(k, n).proportion_ci(method="wilson")
        assert _wilson(k, n) == pytest.approx((expected.low, expected.high))


@pytest.mark.parametrize(
    ("slow", "verdict"), [(800.0, "supported"), (960.0, "undecided"), (1500.0, "refuted")]
)
def test_a_ratio_of_speeds_within_the_noise_is_no_difference(tmp_path, slow, verdict):
    rows = [measured("lstm", 128, **speed(slow)), measured("gru", 128, **speed(1000.0))]
    evidence = (
        "{metric: train_tokens_per_s, group: {architecture: lstm}, "
        "against: {architecture: gru}, by: ratio, below: 1, min_n: 1}"
    )
    (finding,) = judged(tmp_path, rows, evidence).findings
    assert (finding.verdict, finding.effect.value) == (verdict, pytest.approx(slow / 1000))


@pytest.mark.parametrize(("processor", "verdict"), [("", "undecided"), ("Other 1", "supported")])
def test_what_the_machine_drifted_by_between_two_sessions_supports_nothing(
    tmp_path, processor, verdict
):
    rows = [
        measured("lstm", 128, **speed(800.0), reference_ms=1.2),
        measured("gru", 128, **speed(1000.0), reference_ms=1.0),
    ]
    if processor:
        run, change = rows[0]
        rows[0] = run, {**change, "provenance": {**synthetic.PROVENANCE, "processor": processor}}
    evidence = (
        "{metric: train_tokens_per_s, group: {architecture: lstm}, "
        "against: {architecture: gru}, by: ratio, below: 1, min_n: 1}"
    )
    assert judged(tmp_path, rows, evidence).verdict == verdict


def test_groups_at_two_lengths_are_paired_over_them(tmp_path):
    rows = [
        measured(name, length, state_bytes=size)
        for name, at in (("lstm", (512, 512)), ("transformer", (1000, 8000)))
        for length, size in zip((128, 1024), at, strict=True)
    ]
    evidence = (
        "{metric: state_bytes, group: {length: 1024}, against: {length: 128}, by: ratio, "
        "each: {architecture: [lstm, transformer]}, between: [1, 1], exact: true}"
    )
    found = judged(tmp_path, rows, evidence)
    effects = [finding.effect.value for finding in found.findings]
    assert effects == [1.0, pytest.approx(8.0)]
    assert [finding.verdict for finding in found.findings] == ["supported", "refuted"]
    assert found.verdict == "refuted"


def test_exponents_are_those_of_the_scaling_table(tmp_path):
    rows = series("lstm", 1.0) + series("transformer", 2.0)
    linear = "{exponent: train, group: {architecture: lstm}, between: [0.8, 1.2], min_n: 4}"
    steeper = (
        "{exponent: train, group: {architecture: transformer}, "
        "against: {architecture: lstm}, above: 0.5, min_n: 4}"
    )
    found = judged(tmp_path, rows, linear, steeper)
    assert found.verdict == "supported"
    assert found.findings[0].effect.value == pytest.approx(1.0, abs=0.02)
    assert found.findings[1].effect.value == pytest.approx(1.0, abs=0.05)
    assert len(found.findings[0].effect.rows) == 5


def test_an_exponent_waits_for_the_lengths_that_never_ran(tmp_path):
    rows = series("lstm", 1.0)
    linear = "{exponent: train, group: {architecture: lstm}, between: [0.8, 1.2], min_n: 4}"
    (finding,) = judged(tmp_path, rows[:-1], linear, missing=[rows[-1][0]]).findings
    assert finding.verdict == "undecided"
    assert "1 missing of 5 runs" in finding.why


def test_all_evidence_has_to_hold(tmp_path):
    rows = scored("lstm", (0.9, 0.92, 0.94))
    no_rows = "{metric: test_score, group: {architecture: gru}, above: 0}"
    wrong = LEVEL.replace("0.75", "0.99")
    assert judged(tmp_path, rows, LEVEL, no_rows).verdict == "undecided"
    (tmp_path / "again").mkdir()
    assert judged(tmp_path / "again", rows, LEVEL, no_rows, wrong).verdict == "refuted"


def test_the_shipped_claims_need_no_rows_to_be_read(tmp_path):
    study = synthetic.study([synthetic.run()], tmp_path)
    frame = complete(study, Store(tmp_path))
    claims = read(SHIPPED, frame)
    found = judge(claims, study, frame)
    assert len(claims) >= 11
    assert {one.verdict for one in found} == {"undecided"}
    for one in found:
        assert any(finding.remedies for finding in one.findings), one.claim.name


def test_hostile_text_stays_text(tmp_path):
    architecture = {"name": "lstm", "label": "<script>|`alert`"}
    rows = scored(architecture, (0.9, 0.92, 0.94))
    evidence = LEVEL.replace("architecture: lstm", 'architecture: "<script>|`alert`"')
    found = [judged(tmp_path, rows, evidence, says='"<b>|`x` \\"so\\""')]
    assert found[0].verdict == "supported"
    text = as_markdown(found)
    assert "\\<script>\\|" in text
    assert "\\<b>\\|" in text
    assert json.loads(as_json(found))[0]["evidence"][0]["n"] == 3
    assert "<script>" in as_text(found)


def test_the_command_tells_rows_and_what_would_decide(tmp_path):
    (tmp_path / "study.yaml").write_text(
        "title: T\nbase: {task: parity, length: 16}\ngrid: {architecture: [lstm]}\n"
    )
    file_of(tmp_path, LEVEL)
    done = CliRunner().invoke(cli.app, ["claims", str(tmp_path)])
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith("undecided  It is so.")
    assert "run what is missing" in done.stdout
    done = CliRunner().invoke(cli.app, ["claims", str(tmp_path), "-f", "json"])
    assert json.loads(done.stdout)[0]["verdict"] == "undecided"


def test_a_claim_is_asked_by_a_study_that_has_runs_on_every_side(tmp_path):
    rows = scored("lstm", (0.9, 0.9, 0.9))
    assert judged(tmp_path / "one", rows, LEVEL).asked
    assert not judged(tmp_path / "two", rows, LEVEL, BETTER).asked  # no rnn to hold it against
    missing = [synthetic.run("rnn", "mqar", seed=seed) for seed in range(3)]
    found = judged(tmp_path / "three", rows, BETTER, missing=missing)
    assert (found.asked, found.verdict) == (True, "undecided")  # its runs are yet to come
    both = scored("lstm", (0.9,)) + scored({"name": "lstm", "layers": 3}, (0.8,))
    assert not judged(tmp_path / "four", both, LEVEL).asked  # there is no one LSTM in it
