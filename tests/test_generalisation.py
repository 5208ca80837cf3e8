"""Length generalisation: thresholds either way up, missing lengths named, nothing averaged over."""

import numpy as np
import pandas as pd
import pytest
import scipy.stats

from bench import cli
from bench.records.bootstrap import stretch
from bench.records.tidy import tidy
from bench.report import generalisation, generalisation_tables
from tests import synthetic


def rows(scores, *, task="mqar", own=0.9, architecture="lstm", extra=None):
    """One seed per element of `scores`: {length: score} at other lengths than 128."""
    metric = synthetic.TASKS[task].metric
    found = []
    for seed, by_length in enumerate(scores):
        run = synthetic.run(architecture, task, 128, seed=seed, test_lengths=[256, 512, 1024])
        at = {f"test_{metric}_at_{n}": score for n, score in by_length.items()}
        metrics = {"test_score": own, "val_score": own, **at, **(extra or {})}
        found.append(synthetic.row(run, metrics=metrics))
    return found


def only(frame):
    assert len(frame) == 1
    return frame.iloc[0]


def test_the_effective_length_is_the_last_before_the_score_falls():
    # The threshold is 0.0156 + 0.9 (0.9 - 0.0156) = 0.8116; what recovers later does not count.
    line = only(generalisation.summary(tidy(rows([{256: 0.85, 512: 0.5, 1024: 0.9}] * 2))))
    assert line["threshold"] == pytest.approx(0.0156 + 0.9 * (0.9 - 0.0156))
    assert line["effective_length"] == 256
    assert not line["effective_is_a_bound"]
    assert line["longest_tested"] == 1024
    assert line["beyond"] == pytest.approx((0.85 + 0.5 + 0.9) / 3)


def test_it_is_the_same_where_lower_is_better():
    # mse, chance 0.167, own 0.01: the threshold is 0.0257.
    given = rows([{256: 0.02, 512: 0.03, 1024: 0.01}], task="adding", own=0.01)
    line = only(generalisation.summary(tidy(given)))
    assert line["threshold"] == pytest.approx(0.167 + 0.9 * (0.01 - 0.167))
    assert line["effective_length"] == 256


def test_a_length_that_is_missing_ends_what_is_known():
    given = rows([{256: 0.89, 1024: 0.89}], extra={"missing_at_512": "ValueError: 256 positions"})
    line = only(generalisation.summary(tidy(given)))
    assert line["effective_length"] == 256
    assert line["effective_is_a_bound"]
    assert pd.isna(line["beyond"])
    assert line["beyond_missing"] == "512 (ValueError: 256 positions)"
    lengths = generalisation.by_length(tidy(given))
    assert list(lengths["tested_length"]) == [128, 256, 512, 1024]
    assert list(lengths["ratio"]) == [1, 2, 4, 8]
    assert lengths["missing"][2] == "ValueError: 256 positions"


def test_a_seed_without_a_length_makes_the_mean_missing():
    given = rows([{256: 0.9, 512: 0.9}, {256: 0.9}])
    line = only(generalisation.summary(tidy(given)))
    assert "512" in line["beyond_missing"]
    assert pd.isna(line["beyond"])
    assert (line["effective_length"], bool(line["effective_is_a_bound"])) == (256, True)
    at = generalisation.by_length(tidy(given)).set_index("tested_length")
    assert (at["n_seeds"][512], at["n_wanted"][512]) == (1, 2)


def test_the_interval_over_seeds_is_scipy_s_bootstrap():
    values = [0.5, 0.6, 0.65, 0.8, 0.9]
    line = only(generalisation.summary(tidy(rows([{256: v, 512: v} for v in values]))))
    ends = scipy.stats.bootstrap((values,), np.mean, method="percentile", rng=0).confidence_interval
    assert line["n_seeds"] == 5
    for name, end in (("beyond_low", ends.low), ("beyond_high", ends.high)):
        widened = line["beyond"] + stretch(5) * (end - line["beyond"])
        assert line[name] == pytest.approx(widened, abs=0.02)
    one = only(generalisation.summary(tidy(rows([{256: 0.9}]))))
    assert pd.isna(one["beyond_low"])


def test_a_model_at_chance_has_no_effective_length():
    line = only(generalisation.summary(tidy(rows([{256: 0.9}], own=0.01))))
    assert pd.isna(line["effective_length"])
    assert "chance" in line["effective_missing"]
    own = only(generalisation.summary(tidy(rows([{256: 0.9}])), threshold=0.95))
    assert "below the threshold" in own["effective_missing"]
    ruler = only(generalisation.summary(tidy(rows([{256: 0.9}])), threshold=0.856))
    assert (ruler["effective_length"], bool(ruler["effective_is_a_bound"])) == (256, True)


def test_a_score_at_the_threshold_is_served():
    line = only(generalisation.summary(tidy(rows([{256: 0.85, 512: 0.5}])), threshold=0.85))
    assert line["effective_length"] == 256


def test_a_study_without_other_lengths_has_no_lines():
    frame = tidy([synthetic.row(synthetic.run())])
    assert generalisation.summary(frame).empty
    assert generalisation.by_length(frame).empty
    with pytest.raises(ValueError, match="share"):
        generalisation.summary(frame, share=90)


@pytest.mark.parametrize("form", ["text", "md", "csv"])
def test_the_command_prints_every_length_and_the_same_twice(form, monkeypatch, capsys):
    given = tidy(rows([{256: 0.85, 512: 0.5, 1024: 0.3}] * 2))
    monkeypatch.setattr("bench.commands.scaling.frame_of", lambda folder: given)
    printed = []
    for _ in range(2):
        cli.app(["generalisation", "x", "--format", form], standalone_mode=False)
        printed.append(capsys.readouterr().out)
    assert printed[0] == printed[1]
    for score in ("0.85", "0.5", "0.3") if form != "text" else ("effective length 256", "0.55"):
        assert score in printed[0]


def test_a_bound_is_printed_as_one_and_a_missing_length_named():
    given = tidy(rows([{256: 0.89, 1024: 0.89}], extra={"missing_at_512": "ValueError: a|b"}))
    text = generalisation_tables.render(given, "md", 0.9, None)
    assert " ≥ 256 | " in text
    assert r"512 (ValueError: a\|b)" in text
    assert "| 0.9000 |" in text


def test_without_other_lengths_the_command_says_so():
    frame = tidy([synthetic.row(synthetic.run())])
    assert "test_lengths" in generalisation_tables.render(frame, "md", 0.9, None)
    assert generalisation_tables.render(frame, "csv", 0.9, None).count("\n") == 1
