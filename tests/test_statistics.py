"""Means over tasks and comparisons in pairs: as scipy has them, refused where a cell is missing."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from scipy import stats

from bench.records.bootstrap import stretch
from bench.records.expected import with_missing
from bench.records.row import Scored
from bench.records.summary import summarise
from bench.records.tidy import tidy
from bench.report import statistics
from bench.report.aggregate import Sample, interquartile_means, resampled, samples
from bench.report.paired import holm, pairs
from tests import synthetic

RESAMPLING_NOISE = 0.02  # of two bootstraps with other random numbers, values being of order 1


def sample(values, cells=None, seeds=None, name="lstm"):
    cells = np.zeros(len(values), dtype=np.int64) if cells is None else np.array(cells)
    seeds = np.arange(len(values)) if seeds is None else np.array(seeds)
    return Sample(architecture=name, values=np.array(values, dtype=float), cell=cells, seed=seeds)


def interquartile_mean(given):
    (found,) = interquartile_means([given]).values()
    return found


def made(scores, *, task="mqar", status=None, scored=None, study=None):
    """The tidy table of {architecture: {length: [score of each seed]}}; None is a lost run."""
    rows = []
    for name, by_length in scores.items():
        for length, values in by_length.items():
            for seed, value in enumerate(values):
                run = synthetic.run(name, task, length, seed=seed)
                more = {} if scored is None else {"scored": scored}
                if value is None:
                    rows.append(synthetic.row(run, "diverged", **more))
                    continue
                metrics = {"test_score": value, "val_score": value}
                rows.append(synthetic.row(run, metrics=metrics, **more))
    return tidy(rows)


def sampled(frame):
    return samples(frame, summarise(frame))


@pytest.mark.parametrize("n", [4, 8, 20])
def test_the_interquartile_mean_is_scipy_s_trimmed_mean(n):
    values = np.random.default_rng(n).normal(size=n)
    found = interquartile_mean(sample(values))
    assert found.value == pytest.approx(stats.trim_mean(values, 0.25))
    assert found.n_runs == n


def test_a_quarter_of_a_run_counts_as_a_quarter():
    # Of five runs the middle 2.5 are the third, and three quarters of the second and the fourth.
    found = interquartile_mean(sample([0, 1, 2, 4, 100])).value
    assert found == pytest.approx((0.75 * 1 + 2 + 0.75 * 4) / 2.5)


def test_an_outlying_run_moves_nothing():
    tame = interquartile_mean(sample([0.1, 0.2, 0.3, 0.4])).value
    assert interquartile_mean(sample([-1e6, 0.2, 0.3, 1e6])).value == pytest.approx(tame)


def test_every_cell_weighs_the_same_however_many_seeds_it_has():
    few = interquartile_mean(sample([0.2, 0.8], [0, 1])).value
    many = interquartile_mean(sample([0.2, *[0.8] * 9], [0, *[1] * 9])).value
    assert many == pytest.approx(few) == pytest.approx(0.5)


def test_the_interval_is_that_of_scipy_s_bootstrap():
    values = np.random.default_rng(0).random(16)
    found = interquartile_mean(sample(values))
    factor = stretch(16)
    ends = stats.bootstrap(
        (values,),
        lambda x, axis: stats.trim_mean(x, 0.25, axis=axis),
        method="percentile",
        n_resamples=20_000,
        rng=np.random.default_rng(1),
    ).confidence_interval
    for ours, end in ((found.low, ends.low), (found.high, ends.high)):
        widened = found.value + factor * (end - found.value)
        assert ours == pytest.approx(widened, abs=RESAMPLING_NOISE)


@pytest.mark.parametrize("n_seeds", [2, 3])
def test_the_interval_over_cells_holds_the_truth_as_often_as_it_says(n_seeds):
    """Cells that differ more than their seeds do, as tasks do."""
    random = np.random.default_rng(n_seeds)
    level = np.repeat(np.linspace(0, 3, 8), n_seeds)
    cells = np.repeat(np.arange(8), n_seeds)
    truth = interquartile_mean(sample(level, cells)).value
    given = [sample(random.normal(level, 0.1), cells, name=str(i)) for i in range(400)]
    held = [one.low <= truth <= one.high for one in interquartile_means(given).values()]
    assert np.mean(held) > 0.92


def test_seeds_are_drawn_within_their_own_cell():
    cells = np.repeat([0, 1, 2], [2, 3, 5])
    for counts in resampled(cells):
        for cell, n in enumerate((2, 3, 5)):
            assert (counts[cells == cell].sum(axis=0) == n).all()


def test_the_difference_between_tasks_is_no_noise():
    """Cells that differ a lot, with seeds that do not: the interval is that of the seeds."""
    found = interquartile_mean(sample([0.1, 0.1, 0.5, 0.5, 0.9, 0.9], [0, 0, 1, 1, 2, 2]))
    assert (found.low, found.high) == (pytest.approx(found.value), pytest.approx(found.value))


def test_samples_together_have_the_intervals_that_they_have_alone():
    random = np.random.default_rng(2)
    cells = [0, 0, 0, 1, 1, 2, 2, 2]
    given = [sample(random.random(8), cells, name=name) for name in "abc"]
    given.insert(1, sample(random.random(4), name="d"))
    together = interquartile_means(given)
    assert list(together) == ["a", "b", "c", "d"]
    assert together == {one.architecture: interquartile_mean(one) for one in given}


def test_one_seed_has_no_interval():
    found = interquartile_mean(sample([0.1, 0.5, 0.6], [0, 1, 1]))
    assert found.low is None
    assert found.high is None


@pytest.mark.parametrize(
    ("scored", "score", "expected"),
    [
        (Scored(metric="accuracy", unit="fraction", higher_is_better=True, chance=0.2), 0.6, 0.5),
        (Scored(metric="error", unit="fraction", higher_is_better=False, chance=0.8), 0.2, 0.75),
        (Scored(metric="bits", unit="bits", higher_is_better=False, chance=8.0), 10.0, -0.25),
    ],
)
def test_scores_are_put_between_chance_and_perfect(scored, score, expected):
    (found,) = sampled(made({"lstm": {128: [score, score]}}, scored=scored))
    assert found.values == pytest.approx([expected] * 2)
    assert found.refused == ""


@pytest.mark.parametrize(
    "scored",
    [
        Scored(metric="return", unit="points", higher_is_better=True, chance=0.0),
        Scored(metric="accuracy", unit="fraction", higher_is_better=True, chance=None),
        Scored(metric="accuracy", unit="fraction", higher_is_better=True, chance=1.0),
    ],
    ids=["no perfect score", "no chance", "chance is perfect"],
)
def test_a_score_without_a_scale_is_refused_and_named(scored):
    (found,) = sampled(made({"lstm": {128: [0.5, 0.5]}}, scored=scored))
    assert found.refused == "mqar at 128: chance or a perfect score is not known"
    assert interquartile_means([found]) == {}


def test_a_mean_over_tasks_is_refused_where_a_seed_or_a_cell_is_missing():
    given = {
        "rnn": {128: [0.5, 0.5], 256: [0.5, None]},
        "lstm": {128: [0.5, 0.5]},
        "gru": {128: [0.5, 0.5], 256: [0.4, 0.6]},
    }
    frame = made(given)
    refused = {one.architecture: one.refused for one in sampled(frame)}
    assert refused == {
        "rnn": "mqar at 256: 1 diverged of 2 seeds",
        "lstm": "mqar at 256 is not in the study",
        "gru": "",
    }
    overall = statistics.overall(statistics.with_ranks(summarise(frame)), sampled(frame))
    scores = {one.architecture: one.score for one in overall}
    assert scores["rnn"] is scores["lstm"] is None
    assert scores["gru"].n_runs == 4


def test_a_run_without_a_row_is_missing_too():
    runs = [synthetic.run("lstm", seed=seed) for seed in range(2)]
    study = synthetic.study(runs, None)
    frame = with_missing(tidy([synthetic.row(runs[0])]), study)
    (found,) = sampled(frame)
    assert found.refused == "mqar at 128: 1 missing of 2 seeds"


def pair(first, second, **more):
    (found,) = pairs([sample(first, name="lstm", **more), sample(second, name="gru", **more)])
    return found


def t(x, y, axis):
    gaps = x - y
    return gaps.mean(axis=axis) / gaps.std(axis=axis, ddof=1)


def test_p_is_that_of_scipy_s_permutation_test():
    random = np.random.default_rng(3)
    first, second = random.normal(0.5, 1, 9), random.normal(0, 1, 9)
    expected = stats.permutation_test(
        (first, second), t, permutation_type="samples", vectorized=True
    ).pvalue
    assert pair(first, second).p == pytest.approx(expected)


def test_p_of_many_pairs_is_near_that_of_all_swaps():
    random = np.random.default_rng(4)
    first, second = random.normal(0.5, 1, 16), random.normal(0, 1, 16)
    signs = np.array(list(product((-1, 1), repeat=16)))
    found = np.abs(t(signs * (first - second), 0, 1))
    exact = (found >= abs(t(first, second, 0)) - 1e-9).mean()
    assert pair(first, second).p == pytest.approx(exact, abs=0.015)


def test_the_interval_of_one_cell_is_student_s():
    random = np.random.default_rng(5)
    first, second = random.random(6), random.random(6)
    found = pair(first, second)
    ends = stats.ttest_rel(first, second).confidence_interval()
    assert (found.low, found.high) == (pytest.approx(ends.low), pytest.approx(ends.high))


def test_the_interval_of_two_cells_is_welch_s():
    """The difference of two cells, one of them turned over, is the mean of both times two."""
    random = np.random.default_rng(6)
    first, second = random.normal(0.3, 0.1, 5), random.normal(0.6, 0.4, 7)
    found = pair([*first, *-second], [0.0] * 12, cells=[0] * 5 + [1] * 7)
    ends = stats.ttest_ind(first, second, equal_var=False).confidence_interval()
    assert (2 * found.low, 2 * found.high) == (pytest.approx(ends.low), pytest.approx(ends.high))


def test_tasks_that_differ_are_no_noise_of_the_seeds():
    """Better by far in two tasks and worse in two by less, whatever the seed."""
    gaps = np.repeat([0.5, 0.5, -0.3, -0.3], 3) + np.random.default_rng(8).normal(0, 0.01, 12)
    found = pair(gaps, np.zeros(12), cells=np.repeat(np.arange(4), 3))
    assert found.verdict == "lstm is better"
    assert found.probability == pytest.approx(0.5)


def test_a_small_p_is_no_evidence_where_the_interval_holds_0():
    """Six pairs of one direction, of three cells of two seeds that differ among themselves."""
    gaps = [0.5, 0.01, 0.01, 0.5, 0.02, 0.03]
    found = pair(gaps, [0.0] * 6, cells=[0, 0, 1, 1, 2, 2])
    assert found.p < 0.05
    assert found.low < 0
    assert found.verdict == "no evidence of a difference"


def test_one_seed_in_a_cell_is_refused_and_says_so():
    found = pair([0.9, 0.9, 0.9], [0.1, 0.1, 0.1], cells=[0, 0, 1])
    assert found.verdict == "refused: one seed in a cell: no interval"


def test_two_seeds_are_no_evidence_however_far_they_are_apart():
    found = pair([0.9, 0.9], [0.1, 0.1])
    assert found.p == 0.5
    assert found.verdict == "no evidence of a difference"
    assert (found.n_cells, found.n_runs, found.probability) == (1, 2, 1.0)
    assert (found.low, found.high) == (pytest.approx(0.8), pytest.approx(0.8))


def test_equal_runs_have_no_difference_and_p_1():
    found = pair([0.5] * 6, [0.5] * 6)
    assert (found.difference, found.p) == (0.0, 1.0)
    assert found.probability == pytest.approx(0.5)


def test_a_clear_difference_over_tasks_and_seeds_is_evidence():
    cells = np.repeat(np.arange(4), 3)
    random = np.random.default_rng(0)
    worse = random.random(12)
    found = pair(worse + random.uniform(0.1, 0.2, 12), worse, cells=cells)
    assert found.verdict == "lstm is better"
    assert found.seen_from("gru").verdict == "lstm is better"
    back = found.seen_from("gru")
    assert (back.difference, back.low, back.probability) == (-found.difference, -found.high, 0.0)


def test_pairs_by_seed_see_what_means_do_not():
    """Seeds that move both alike cancel."""
    luck = np.linspace(0, 1, 8)
    assert pair(luck + 0.01, luck).verdict == "lstm is better"
    assert pair(luck + 0.01, luck[::-1]).verdict == "no evidence of a difference"


def test_holm_is_that_of_the_book():
    # R: p.adjust(c(0.01, 0.04, 0.03, 0.005), "holm")
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def test_p_is_corrected_for_the_number_of_pairs():
    random = np.random.default_rng(1)
    given = [sample(random.random(6), name=f"a{index}") for index in range(5)]
    given[0] = sample(given[1].values + 0.1, name="a0")
    alone = pairs(given[:2])[0]
    among = pairs(given)[0]
    assert alone.p == among.p == alone.p_corrected == 2 / 2**6
    assert among.p_corrected == pytest.approx(10 * alone.p)
    assert (alone.verdict, among.verdict) == ("a0 is better", "no evidence of a difference")


def test_a_false_difference_is_as_rare_as_promised():
    """Sixty pairs of equal architectures: at p < 0.05 about three, corrected about none."""
    random = np.random.default_rng(7)
    given = [sample(random.normal(size=8), name=f"a{index}") for index in range(12)]
    found = pairs(given)
    assert sum(one.p < 0.05 for one in found) <= 9
    assert all(one.verdict == "no evidence of a difference" for one in found)


def test_what_cannot_be_paired_is_refused_and_named():
    frame = made({"lstm": {128: [0.5, None]}, "gru": {128: [0.5, 0.6]}})
    (found,) = pairs(sampled(frame))
    assert found.verdict == "refused: lstm: mqar at 128: 1 diverged of 2 seeds"
    other = sample([0.1, 0.2], seeds=[5, 6], name="gru")
    (found,) = pairs([sample([0.1, 0.2]), other])
    assert found.verdict == "refused: they were not trained with the same seeds"
    assert pairs([sample([0.1])]) == []
