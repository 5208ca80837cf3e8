"""Exponents and crossovers of costs that are known, through rows as runs leave them."""

import math
import time

import numpy as np
import pytest

from bench import cli
from bench.errors import UserError
from bench.measure.throughput import WallClock, interleave, summarise, warm_up
from bench.records.noise import least_ratio
from bench.records.tidy import tidy
from bench.report import scaling_tables
from bench.report.crossover import crossovers, crossovers_of
from bench.report.scaling import exponents
from bench.report.series import QUANTITIES, all_series
from tests import synthetic

TRAIN, INFER, MEMORY = (QUANTITIES[name] for name in ("train", "infer", "memory"))
LENGTHS = (256, 512, 1024, 2048, 4096, 8192)
NOISE = 0.01  # standard deviation of a measured time
# Local slope of T log T halfway, in logarithms, between 256 and 8192: 1 + 1 / ln 1448.
LINEARITHMIC = 1.137
LAWS = {
    "linear": (lambda t: t, 1.0),
    "linearithmic": (lambda t: t * math.log(t) / 7, LINEARITHMIC),
    "quadratic": (lambda t: t * t / 1000, 2.0),
}


def row(cost, length, *, architecture="gru", seed=0, noise=NOISE, batch=2, error=NOISE, **more):
    """The row of a cell whose T tokens cost `cost(T)` milliseconds, or bytes of memory."""
    run = synthetic.measuring(architecture, "mqar", length).model_copy(update={"seed": seed})
    rng = np.random.default_rng([length, seed, len(architecture)])
    speed = length / (cost(length) * math.exp(noise * rng.standard_normal()) / 1e3)
    ends = {"_low": math.exp(-1.96 * error), "": 1.0, "_high": math.exp(1.96 * error)}
    metrics = {
        f"{which}_tokens_per_s{end}": speed * factor
        for which in ("train", "infer")
        for end, factor in ends.items()
    }
    metrics |= {"peak_bytes": cost(length), "noise_floor": 1.01, "tokens_per_batch": batch * length}
    return synthetic.row(run, metrics=metrics | more.pop("metrics", {}), **more)


def frame(cost, lengths=LENGTHS, **more):
    return tidy(row(cost, length, **more) for length in lengths)


def pair(first, second, lengths=LENGTHS, **more):
    """Rows of an lstm and a transformer of these costs."""
    costs = {"lstm": first, "transformer": second}
    return tidy(
        row(cost, length, architecture=name, **more)
        for name, cost in costs.items()
        for length in lengths
    )


@pytest.mark.parametrize("quantity", [TRAIN, INFER, MEMORY], ids=lambda one: one.name)
@pytest.mark.parametrize("law", LAWS)
def test_a_known_law_has_its_exponent_within_the_interval(law, quantity):
    cost, p = LAWS[law]
    (found,) = exponents(frame(cost), quantity)
    slack = 0.01 if law == "linearithmic" else 0.001  # which is no power law
    assert found.low - slack <= p <= found.high + slack
    assert found.high - found.low < 0.15
    assert found.r_squared > 0.995
    assert (found.shortest, found.longest, found.n_lengths) == (256, 8192, 6)


def test_intervals_hold_the_truth_nineteen_times_of_twenty():
    held = 0
    for seed in range(24):
        (found,) = exponents(frame(lambda t: t, seed=seed), TRAIN)
        held += found.low <= 1.0 <= found.high
    assert held >= 18  # 23 expected; with intervals half as wide it would be 16


@pytest.mark.parametrize("overhead", [500.0, 4000.0])
@pytest.mark.parametrize("p", [1.0, 2.0])
def test_short_lengths_that_are_mostly_overhead_do_not_bias(overhead, p):
    (found,) = exponents(frame(lambda t: overhead + 1000 * (t / 1000) ** p), TRAIN)
    assert found.low <= p <= found.high
    assert found.value == pytest.approx(p, abs=0.15)  # a straight line is off by 0.2 or more


def test_a_law_that_changes_on_the_way_loses_its_short_lengths():
    (found,) = exponents(frame(lambda t: 3 * t if t < 1000 else t * t / 333), TRAIN)
    assert found.shortest >= 512
    assert found.low <= 2.0 <= found.high


def test_an_exponent_that_cannot_be_told_is_missing_with_the_reason():
    (few,) = exponents(frame(lambda t: t, LENGTHS[:2]), TRAIN)
    assert few.value is None
    assert few.missing == "2 lengths measured, 3 are needed"
    (flat,) = exponents(frame(lambda t: 5.0), TRAIN)
    assert flat.value is None
    assert "allow anything" in flat.missing
    varied = tidy(row(lambda t: t, t, metrics={"tokens_per_batch": 8192}) for t in LENGTHS)
    assert exponents(varied, MEMORY)[0].missing == "the batch changes with the length"
    assert exponents(varied, TRAIN)[0].value == pytest.approx(1.0, abs=0.05)


def test_three_lengths_get_a_straight_line_and_the_remark_says_so():
    (found,) = exponents(frame(lambda t: t * t / 1000, LENGTHS[:3], noise=0.0), TRAIN)
    assert found.value == pytest.approx(2.0, abs=1e-3)
    assert "overhead is not told apart" in found.remark


def test_kernels_hardware_precision_and_batches_are_never_mixed():
    rows = [row(lambda t: t, t) for t in LENGTHS]
    others = {
        "kernel": {"kernel": "reference"},
        "hardware": {"provenance": {**synthetic.PROVENANCE, "processor": "Other"}},
    }
    for name, change in others.items():
        more = [row(lambda t: t * t, t, seed=1, **change) for t in LENGTHS]
        found = exponents(tidy([*rows, *more]), TRAIN)
        assert [round(one.value) for one in found] == ([1, 2] if found[0].value < 1.5 else [2, 1])
        assert len({(one.series.kernel, one.series.alike) for one in found}) == 2, name
    for changed in ({"batch_size": 4}, {"precision": "64-true"}):
        more = []
        for one in (row(lambda t: t * t, t) for t in LENGTHS):
            run = synthetic.run(
                "gru",
                "mqar",
                one.run["length"],
                training={"steps": 0, **changed},
                measure={"instruments": ["throughput", "memory"]},
            )
            more.append(one.model_copy(update={"id": run.id, "run": run.model_dump(mode="json")}))
        assert len(exponents(tidy([*rows, *more]), TRAIN)) == 2


def test_seeds_of_a_cell_are_one_point_and_narrow_it():
    one = all_series(frame(lambda t: t), TRAIN)[0]
    rows = [row(lambda t: t, t, seed=seed, noise=0.0) for seed in range(4) for t in LENGTHS]
    four = all_series(tidy(rows), TRAIN)[0]
    assert four.lengths.tolist() == list(map(float, LENGTHS))
    assert four.errors == pytest.approx(one.errors / 2)
    apart = [row(lambda t: t, 256, seed=seed, noise=0.2) for seed in range(4)]
    assert all_series(tidy(apart), TRAIN)[0].errors[0] > 3 * four.errors[0]


@pytest.mark.parametrize("quantity", [TRAIN, INFER, MEMORY], ids=lambda one: one.name)
def test_the_crossover_of_known_costs_is_within_its_interval(quantity):
    lengths = (32, 64, 128, 256, 512, 1024)
    (found,) = crossovers(pair(lambda t: 3 * t, lambda t: t * t / 100, lengths), quantity)
    (crossing,) = found.crossings
    assert crossing.low <= 300.0001
    assert crossing.high >= 299.9999
    assert crossing.high / crossing.low < 1.2
    assert crossing.cheaper == "lstm"
    assert "from there on lstm" in found.verdict


def test_without_a_crossing_the_faster_one_is_named():
    (found,) = crossovers(pair(lambda t: 2 * t, lambda t: t), TRAIN)
    assert found.verdict == "none up to 8,192: transformer is faster throughout"
    rises = pair(lambda t: t, lambda t: t * (1 + t / 20_000))
    (found,) = crossovers(rises, TRAIN)
    assert found.verdict == (
        "none up to 8,192: lstm is faster at 4,096, 8,192, no difference at the others"
    )


@pytest.mark.parametrize("noise_floor", [1.0, 1.2])
def test_nothing_below_the_noise_floor_is_a_difference(noise_floor):
    ratio = 0.97 * least_ratio([noise_floor])
    near = pair(lambda t: ratio * t, lambda t: t, noise=0.0, metrics={"noise_floor": noise_floor})
    (found,) = crossovers(near, TRAIN)
    assert found.verdict == "no difference up to 8,192"
    back_and_forth = pair(lambda t: t * (0.95 if t > 1000 else 1.05), lambda t: t, noise=0.0)
    assert crossovers(back_and_forth, TRAIN)[0].crossings == ()
    wide = pair(lambda t: 1.5 * t, lambda t: t, error=0.3)
    assert crossovers(wide, TRAIN)[0].verdict == "no difference up to 8,192"


def test_two_sessions_differ_by_more_than_the_machine_did():
    """The drift of the machine from one session to the other is no difference of architectures."""
    slow = {"reference_ms": 1.2}
    rows = [
        *(row(lambda t: 1.3 * t, t, noise=0.0, metrics=slow) for t in LENGTHS),
        *(
            row(lambda t: t, t, noise=0.0, architecture="lstm", metrics={"reference_ms": 1.0})
            for t in LENGTHS
        ),
    ]
    (found,) = crossovers(tidy(rows), TRAIN)
    assert found.verdict == "no difference up to 8,192"
    assert found.smallest == pytest.approx(1.1 * 1.2)
    assert crossovers(tidy(rows), MEMORY)[0].cheaper_at == ("lstm",) * len(LENGTHS)


def test_a_point_of_another_hour_widens_the_exponent():
    drifting = [
        row(lambda t: t, t, noise=0.0, metrics={"reference_ms": 1.0 + 0.2 * (t == 8192)})
        for t in LENGTHS
    ]
    alike = [row(lambda t: t, t, noise=0.0, metrics={"reference_ms": 1.2}) for t in LENGTHS]
    wide, narrow = (exponents(tidy(rows), TRAIN)[0] for rows in (drifting, alike))
    assert wide.high - wide.low > 1.2 * (narrow.high - narrow.low)


@pytest.mark.parametrize("noisy", ["lstm", "transformer"])
def test_the_noisier_of_two_says_what_a_difference_is(noisy):
    costs = {"lstm": lambda t: 1.5 * t, "transformer": lambda t: t}
    floors = {name: 1.2 if name == noisy else 1.0 for name in costs}  # a difference from 1.6 on
    rows = [
        row(cost, t, architecture=name, noise=0.0, metrics={"noise_floor": floors[name]})
        for name, cost in costs.items()
        for t in LENGTHS
    ]
    assert crossovers(tidy(rows), TRAIN)[0].verdict == "no difference up to 8,192"


@pytest.mark.parametrize("unsure", ["lstm", "transformer"])
def test_the_less_sure_of_two_says_what_is_clear(unsure):
    costs = {"lstm": lambda t: 1.5 * t, "transformer": lambda t: t}
    rows = [
        row(cost, t, architecture=name, noise=0.0, error=0.3 if name == unsure else NOISE)
        for name, cost in costs.items()
        for t in LENGTHS
    ]
    assert crossovers(tidy(rows), TRAIN)[0].verdict == "no difference up to 8,192"


def test_batches_of_different_sizes_are_not_compared():
    rows = [
        row(lambda t: t, t, architecture=name, batch=batch)
        for name, batch in (("lstm", 2), ("transformer", 4))
        for t in LENGTHS
    ]
    (found,) = crossovers(tidy(rows), TRAIN)
    assert found.verdict == "they were measured with batches of different sizes"


def test_unsure_costs_on_a_perfect_line_have_an_unsure_exponent():
    (sure,) = exponents(frame(lambda t: t, noise=0.0, error=0.001), TRAIN)
    (unsure,) = exponents(frame(lambda t: t, noise=0.0, error=0.1), TRAIN)
    assert sure.high - sure.low < 0.02
    assert unsure.high - unsure.low > 0.1


@pytest.mark.parametrize("error", [0.001, 0.02])
@pytest.mark.parametrize("p", [0.993, 1.007, 1.987])
def test_an_exponent_between_two_that_were_tried_is_found(p, error):
    (found,) = exponents(frame(lambda t: t**p, noise=0.0, error=error), TRAIN)
    assert found.value == pytest.approx(p, abs=0.002)


def test_the_worst_noise_floor_of_a_series_is_its_own():
    rows = [row(lambda t: t, t, metrics={"noise_floor": 1 + t / 81920}) for t in LENGTHS]
    assert all_series(tidy(rows), TRAIN)[0].noise_floor == pytest.approx(1.1)


def test_an_interval_is_two_standard_errors_to_each_side_and_failed_rows_are_none():
    rows = [row(lambda t: t, t, error=0.1) for t in LENGTHS[:-1]]
    rows.append(row(lambda t: 9 * t, LENGTHS[-1], status="failed"))
    (found,) = all_series(tidy(rows), TRAIN)
    assert found.errors == pytest.approx([0.1] * 5, rel=1e-3)
    assert found.lengths.tolist() == list(map(float, LENGTHS[:-1]))
    assert found.problems == "failed at 8,192"


def test_several_crossings_are_all_listed():
    (found,) = crossovers(pair(lambda t: t * (2 if 500 < t < 3000 else 0.5), lambda t: t), TRAIN)
    assert [one.cheaper for one in found.crossings] == ["transformer", "lstm"]
    first, second = found.crossings
    assert 256 < first.length < 512
    assert 2048 < second.length < 4096


def test_what_was_not_measured_alike_is_not_compared():
    rows = [row(lambda t: t, t, architecture="lstm") for t in LENGTHS]
    other = {**synthetic.PROVENANCE, "processor": "Other"}
    rows += [row(lambda t: t, t, architecture="rnn", provenance=other) for t in LENGTHS]
    assert crossovers(tidy(rows), TRAIN) == []
    (found,) = crossovers_of(tidy(rows), "lstm", "rnn", TRAIN)
    assert found.verdict == "not measured alike: they differ in hardware"
    with pytest.raises(UserError, match="did you mean 'lstm'"):
        crossovers_of(tidy(rows), "lstn", "rnn", TRAIN)


def test_a_pair_of_kernel_classes_and_lost_lengths_are_told():
    lost = synthetic.row(synthetic.measuring("transformer", "mqar", 16384), "oom")
    rows = [row(lambda t: 2 * t, t, architecture="lstm", kernel="reference") for t in LENGTHS]
    rows += [row(lambda t: t, t, architecture="transformer") for t in LENGTHS]
    (found,) = crossovers(tidy([*rows, lost]), TRAIN)
    assert "lstm reference" in found.remark
    assert "transformer library" in found.remark
    assert found.remark.endswith("transformer: oom at 16,384")


@pytest.mark.parametrize("form", ["text", "md", "csv"])
def test_the_commands_print_the_same_twice(form, tmp_path, monkeypatch, capsys):
    crossing = pair(lambda t: 3 * t, lambda t: t * t / 1000)
    monkeypatch.setattr("bench.commands.scaling.frame_of", lambda folder: crossing)
    for command in (["scaling"], ["crossover", "lstm", "transformer", "--quantity", "train"]):
        printed = []
        for _ in range(2):
            cli.app([*command, str(tmp_path), "--format", form], standalone_mode=False)
            printed.append(capsys.readouterr().out)
        assert printed[0] == printed[1]
        assert "lstm" in printed[0]
    assert printed[0].count("from there on") == 1
    assert scaling_tables.scaling(crossing, "md").count("### ") == 3


@pytest.mark.slow
def test_sleeps_of_known_length_have_their_exponents():
    lengths = (256, 512, 1024, 2048, 4096)
    steps = {
        (name, t): warm_up(lambda s=s: time.sleep(s), WallClock())
        for name, (law, _) in LAWS.items()
        for t, s in ((t, law(t) * 0.04 / law(lengths[-1])) for t in lengths)
    }
    interleave(list(steps.values()), WallClock(), 0.2, 5)
    for name, (law, p) in LAWS.items():
        rows = []
        for t in lengths:
            seen = summarise(steps[name, t].samples)
            ends = {"": seen.p50, "_low": seen.high, "_high": seen.low}
            speeds = {f"train_tokens_per_s{end}": t / s for end, s in ends.items()}
            rows.append(row(law, t, metrics=speeds))
        (found,) = exponents(tidy(rows), TRAIN)
        if name == "linearithmic":
            p = 1 + 1 / math.log(1024)  # halfway between these lengths
        assert found.value is not None, found.missing
        # A sleep is late by a tenth of a millisecond and more on a busy machine.
        assert found.low - 0.03 <= p <= found.high + 0.03
        assert found.value == pytest.approx(p, abs=0.25)
