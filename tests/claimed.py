"""Claims on rows that never ran, for the tests of claims and of what would decide them."""

from bench.records.expected import complete
from bench.records.store import Store
from bench.report.claim_file import read
from bench.report.claims import judge
from tests import synthetic

LEVEL = "{metric: test_score, group: {architecture: lstm}, above: 0.75, min_n: 3}"

BETTER = (
    "{metric: test_score, group: {architecture: lstm}, against: {architecture: rnn}, "
    "above: 0, min_n: 3}"
)

LSTM = "architecture: lstm, task: mqar, length: 128, training.steps: 300"
"""What the runs of `scored` are over a study without a base."""


def file_of(tmp_path, *evidence, **more):
    lines = "".join(f"      - {one}\n" for one in evidence)
    path = tmp_path / "claims.yaml"
    head = "claims:\n  - name: {name}\n    says: {says}\n    evidence:\n"
    path.write_text(head.format(**{"name": "one", "says": "It is so.", **more}) + lines)
    return path


def judged(tmp_path, rows, *evidence, missing=(), **more):
    """The verdict of one claim on rows, a list of (run, changes of its row)."""
    store = Store(tmp_path)
    for run, changes in rows:
        store.write(synthetic.row(run, **changes))
    study = synthetic.study([*(run for run, _ in rows), *missing], tmp_path)
    frame = complete(study, store)
    (found,) = judge(read(file_of(tmp_path, *evidence, **more), frame), study, frame)
    return found


def scored(architecture, values, **more):
    return [
        (
            synthetic.run(architecture, "mqar", seed=seed, **more),
            {"metrics": {"test_score": value, "val_score": value}},
        )
        for seed, value in enumerate(values)
    ]


def clipped(n_diverged, n, clip):
    training = {"steps": 300, "clip_norm": clip}
    return [
        (
            synthetic.run("rnn", "mqar", seed=seed, training=training),
            {"status": "diverged"} if seed < n_diverged else {},
        )
        for seed in range(n)
    ]


def measured(architecture, length, **metrics):
    run = synthetic.measuring(architecture, "mqar", length)
    return run, {"metrics": {"noise_floor": 1.01, **metrics}}


def speed(value, error=0.01):
    name = "train_tokens_per_s"
    return {name: value, f"{name}_low": value * (1 - error), f"{name}_high": value * (1 + error)}


def series(architecture, power, lengths=(256, 512, 1024, 2048, 4096)):
    return [
        measured(
            architecture,
            length,
            tokens_per_batch=length,
            **speed(1e6 * (length / 256) ** (1 - power), 0.005),
        )
        for length in lengths
    ]
