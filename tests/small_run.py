"""A run of four steps, and the row that it leaves."""

from bench.spec import Run, parse_run
from bench.training.execute import (
    execute,
)


def a_run(**changes: object) -> Run:
    training = {"steps": 4, "batch_size": 8, "learning_rate": 1e-2}
    base = {"architecture": "gru", "task": "parity", "length": 12, "width": 16}
    training |= changes.pop("training", {})
    return parse_run({**base, "training": training, **changes})


def row_of(run: Run):
    return execute(run, "test", {})
