"""What an undecided claim asks for would decide it."""

import yaml

from bench.records.expected import complete
from bench.records.store import Store
from bench.report.claim_file import read
from bench.report.claims import judge
from bench.study import load, over_base
from tests import synthetic
from tests.claimed import LEVEL, LSTM, file_of, judged, scored, series


def test_missing_cells_are_asked_for_by_the_sweep(tmp_path):
    rows = scored("lstm", (0.9, 0.9))
    more = [synthetic.run("lstm", "mqar", seed=2)]
    (finding,) = judged(tmp_path, rows, LEVEL, missing=more).findings
    assert finding.remedies == (f"run what is missing: bench sweep {tmp_path}",)


def test_runs_that_no_study_has_are_lines_for_a_study(tmp_path):
    (finding,) = judged(tmp_path, scored("rnn", (0.5,)), LEVEL).findings
    assert finding.verdict == "undecided"
    assert finding.remedies[2:] == tuple(
        f"  - {{architecture: lstm, seed: {seed}}}" for seed in range(3)
    )


def test_too_few_seeds_ask_for_as_many_as_are_needed(tmp_path):
    (finding,) = judged(tmp_path, scored("lstm", (0.6, 0.9)), LEVEL).findings
    assert "2 of the 3" in finding.why
    assert [line for line in finding.remedies if "seed: " in line] == [
        f"  - {{{LSTM}, seed: {seed}}}" for seed in (2, 3, 4)
    ]


def test_the_seeds_that_a_remedy_asks_for_do_decide(tmp_path):
    """If they are like those there are: here the same values again."""
    values = (0.78, 0.80, 0.90)
    (finding,) = judged(tmp_path, scored("lstm", values), LEVEL).findings
    assert finding.verdict == "undecided"
    assert finding.remedies[0] == "about 5 seeds would decide, if further ones are like these"
    assert [line for line in finding.remedies if "seed: " in line] == [
        f"  - {{{LSTM}, seed: {seed}}}" for seed in (3, 4)
    ]
    (tmp_path / "more").mkdir()
    assert judged(tmp_path / "more", scored("lstm", values * 2), LEVEL).verdict == "supported"


def test_what_a_remedy_asks_for_are_further_seeds_of_the_same_settings(tmp_path):
    """Over a base that has other settings than the cells that are undecided."""
    label = "{name: mqar, pairs: 3, label: recall}"
    text = (
        "title: T\nbase: {params: 5000, training: {steps: 300, batch_size: 4}}\n"
        f"grid: {{architecture: [lstm], task: [{label}], length: [64], seed: [0, 1, 2],\n"
        "  params: [null], width: [8], training.steps: [200], training.batch_size: [null],\n"
        "  training.tokens_per_batch: [512]}\n"
    )
    (tmp_path / "study.yaml").write_text(text)
    study, store = load(tmp_path), Store(tmp_path)
    for run, value in zip(study.runs, (0.78, 0.80, 0.90), strict=True):
        metrics = {"test_score": value, "val_score": value}
        store.write(synthetic.row(run, metrics=metrics))
    frame = complete(study, store)
    (found,) = judge(read(file_of(tmp_path, LEVEL), frame), study, frame)
    lines = found.findings[0].remedies
    more = "\n".join(lines[lines.index("include:") :])
    (tmp_path / "study.yaml").write_text(f"{text}{more}\n")
    runs = load(tmp_path).runs
    assert [run.seed for run in runs] == [0, 1, 2, 3, 4]
    assert len({run.setting for run in runs}) == 1
    assert {run.id for run in study.runs} < {run.id for run in runs}


def test_what_no_number_of_seeds_decides_is_not_asked_for(tmp_path):
    (finding,) = judged(tmp_path, scored("lstm", (0.6, 0.75, 0.9)), LEVEL).findings
    (line,) = finding.remedies
    assert "more than 20 seeds" in line


def test_a_row_that_lacks_the_column_is_shown_not_multiplied(tmp_path):
    rows = scored("lstm", (0.9, 0.9, 0.9))
    rows[1] = (rows[1][0], {"metrics": {"val_score": 0.9}})
    (finding,) = judged(tmp_path, rows, LEVEL).findings
    assert finding.remedies == (
        f"a row has no test_score; it says why: bench show {rows[1][0].id}",
    )


def test_what_a_snippet_asks_for_decides(tmp_path):
    """The remedy of a measured comparison is a study that gives it."""
    evidence = (
        "{metric: peak_bytes, group: {architecture: lstm, length: [64, 128]}, "
        "above: 0, exact: true}"
    )
    (finding,) = judged(tmp_path, scored("rnn", (0.5,)), evidence).findings
    study = tmp_path / "more"
    study.mkdir()
    lines = "\n".join(finding.remedies[1:])
    base = "base: {task: mqar, training: {steps: 9, warmup_steps: 3}}"
    (study / "study.yaml").write_text(f"title: More\n{base}\n{lines}\n")
    runs = load(study).runs
    assert [(run.length, run.measure.instruments) for run in runs] == [
        (64, ("memory",)),
        (128, ("memory",)),
    ]


def test_an_exponent_of_too_few_lengths_asks_for_a_longer_one(tmp_path):
    rows = series("lstm", 1.0, lengths=(256, 512))
    linear = "{exponent: train, group: {architecture: lstm}, between: [0.8, 1.2], min_n: 4}"
    (finding,) = judged(tmp_path, rows, linear).findings
    assert "2 lengths measured, 3 are needed" in finding.why
    assert "length: 1024" in finding.remedies[-1]
    assert "measure.instruments: [memory, throughput]" in finding.remedies[-1]


def test_what_a_remedy_asks_for_is_said_over_a_base_that_is_no_run(tmp_path):
    """A base that does not train, of a study whose grid says what is measured."""
    (tmp_path / "study.yaml").write_text(
        "title: T\nbase: {width: 16, training: {steps: 0, batch_size: 2}}\n"
        "measure: {architecture: [gru], task: [parity], length: [64], instruments: [memory]}\n"
    )
    study = load(tmp_path)
    said = over_base(study, study.runs[0])
    assert said == {
        "architecture": "gru",
        "task": "parity",
        "length": 64,
        "measure.instruments": ["memory"],
    }
    again = {**yaml.safe_load((tmp_path / "study.yaml").read_text()), "include": [said]}
    del again["measure"]
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(again))
    assert [run.id for run in load(tmp_path).runs] == [study.runs[0].id]
