"""The reproduction card: measured against published, with a verdict that three seeds can carry."""

import pytest
from typer.testing import CliRunner

from bench import cli
from bench.errors import UserError
from bench.records.expected import complete
from bench.records.row import Scored
from bench.records.store import Store
from bench.report.published import read
from bench.report.reproduction import cards, render
from bench.study import Reproduces, load
from tests import synthetic

BAI = "Bai, Kolter, Koltun 2018, arXiv 1803.01271, Table 1"
LSTM = 0.872  # what it prints for the LSTM on sequential MNIST
ACCURACY = Scored(metric="accuracy", unit="fraction", higher_is_better=True, chance=0.1)


@pytest.fixture(scope="module")
def numbers():
    return read()


def card_of(tmp_path, numbers, scores, *, tolerance=0.01, architecture="lstm_stack", **more):
    runs = [synthetic.run(architecture, "smnist", 784, seed=seed) for seed in range(len(scores))]
    reproduces = Reproduces(citation=BAI, tolerance=tolerance, **more)
    study = synthetic.study(runs, tmp_path, reproduces=reproduces)
    store = Store(tmp_path)
    for run, score in zip(runs, scores, strict=True):
        metrics = {"test_score": score, "val_score": score, "test_accuracy": score}
        if score is not None:
            store.write(synthetic.row(run, metrics=metrics, scored=ACCURACY))
    return study, cards(study, complete(study, store), numbers)


@pytest.mark.parametrize(
    ("scores", "verdict", "why"),
    [
        ((0.870, 0.872, 0.874), "reproduced", ""),
        ((0.920, 0.925, 0.930), "not reproduced", "measured higher"),
        ((0.700, 0.710, 0.720), "not reproduced", "measured lower"),
        ((0.865, 0.880, 0.900), "undecided", "across the tolerance"),
        ((0.872,), "undecided", "one seed has no interval"),
        ((0.872, 0.872, None), "undecided", "2 of 3 seeds"),
        ((None, None), "undecided", "0 of 2 seeds"),
    ],
)
def test_the_whole_interval_decides(tmp_path, numbers, scores, verdict, why):
    study, (card,) = card_of(tmp_path, numbers, scores)
    assert card.verdict == verdict
    assert why in card.why
    known = [score for score in scores if score is not None]
    assert (card.n_seeds, card.n_wanted) == (len(known), len(scores))
    if known:
        assert card.gap == pytest.approx(sum(known) / len(known) - LSTM)
    else:
        assert card.gap is None
    text = render(study, [card])
    assert f"{len(known)} of {len(scores)}" in text
    assert "0.8720" in text


def test_the_tolerance_is_in_the_unit_of_the_score(tmp_path, numbers):
    _, (card,) = card_of(tmp_path, numbers, (0.80, 0.81, 0.82), tolerance=0.1)
    assert card.verdict == "reproduced"


def test_the_setting_that_val_chose_is_held_against_the_paper(tmp_path, numbers):
    runs = [
        synthetic.run(
            "lstm_stack", "smnist", 784, seed=seed, training={"steps": 300, "learning_rate": rate}
        )
        for rate in (0.001, 0.01)
        for seed in (0, 1)
    ]
    reproduces = Reproduces(citation=BAI, tolerance=0.01)
    study = synthetic.study(runs, tmp_path, reproduces=reproduces)
    store = Store(tmp_path)
    for run in runs:
        good = run.training.learning_rate == 0.01
        score = 0.872 + 0.001 * run.seed if good else 0.3
        metrics = {"test_score": score, "val_score": score, "test_accuracy": score}
        store.write(synthetic.row(run, metrics=metrics, scored=ACCURACY))
    (card,) = cards(study, complete(study, store), numbers)
    assert (card.verdict, card.n_wanted) == ("reproduced", 2)


def test_a_citation_that_there_is_not_names_the_nearest(tmp_path, numbers):
    runs = [synthetic.run("lstm_stack", "smnist", 784)]
    wrong = Reproduces(citation=BAI.replace("Kolter", "Colter"), tolerance=1)
    study = synthetic.study(runs, tmp_path, reproduces=wrong)
    with pytest.raises(UserError, match="did you mean 'Bai, Kolter"):
        cards(study, complete(study, Store(tmp_path)), numbers)


def test_a_task_that_the_citation_has_not_names_the_nearest(tmp_path, numbers):
    with pytest.raises(UserError, match="no task of that citation 'smnst'; did you mean 'smnist'"):
        card_of(tmp_path, numbers, (0.87, 0.87), task="smnst")


def test_a_study_of_other_cells_is_told_what_the_citation_has(tmp_path, numbers):
    study = synthetic.study(
        [synthetic.run("mamba", "mqar", 64)],
        tmp_path,
        reproduces=Reproduces(citation=BAI, tolerance=1),
    )
    with pytest.raises(UserError, match=r"smnist at 784 \(lstm_stack or lstm\)"):
        cards(study, complete(study, Store(tmp_path)), numbers)


def test_a_study_without_reproduces_is_told_the_key(tmp_path, numbers):
    study = synthetic.study([synthetic.run()], tmp_path)
    with pytest.raises(UserError, match="has no `reproduces:"):
        cards(study, complete(study, Store(tmp_path)), numbers)


STUDY = f"""\
title: Sequential MNIST again
base: {{task: smnist, length: 784}}
grid: {{architecture: [lstm_stack], seed: [0, 1]}}
reproduces: {{citation: "{BAI}", tolerance: 0.01}}
"""


def test_a_study_file_says_what_it_reproduces(tmp_path):
    (tmp_path / "study.yaml").write_text(STUDY)
    assert load(tmp_path).reproduces == Reproduces(citation=BAI, tolerance=0.01)
    done = CliRunner().invoke(cli.app, ["reproduction", str(tmp_path)])
    assert done.exit_code == 0
    assert "0 of 2 seeds" in done.stdout
    assert "1 undecided" in done.stdout


@pytest.mark.parametrize("problem", ["tolerence: 0.01", "tolerance: -1", "tolerance: much"])
def test_a_wrong_key_of_reproduces_is_one_line(tmp_path, problem):
    (tmp_path / "study.yaml").write_text(STUDY.replace("tolerance: 0.01", problem))
    with pytest.raises(UserError, match=r"reproduces.*tolerance") as raised:
        load(tmp_path)
    assert "\n" not in str(raised.value)


def test_rounding_is_no_gap(tmp_path, numbers):
    study, (card,) = card_of(tmp_path, numbers, (0.871, 0.872, 0.873))
    assert card.gap == 0
    assert "e-1" not in render(study, [card])
