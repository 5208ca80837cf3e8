"""A study of the size that the page is made for, with names that try to be more than names."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.records.row import Row
from bench.records.store import Store
from bench.spec import Run
from bench.study import Study
from tests import synthetic

SCRIPT = "<script>window.broken = true</script>"
BREAKOUT = "</script><img src=x onerror='window.broken = true'>"
LONG = "a_very_long_name_that_goes_on_" * 7
HOSTILE = (SCRIPT, BREAKOUT, LONG, "ünïcödé 模型 || '\"\\")
ARCHITECTURES: list[Any] = [
    *synthetic.ARCHITECTURES,
    *({"name": "lstm", "layers": n + 2, "label": name} for n, name in enumerate(HOSTILE)),
    {"name": "gru", "layers": 3, "label": "gru three layers"},
]
TASKS: list[Any] = [
    "mqar",
    "adding",
    *({"name": "mqar", "pairs": n + 3, "label": f"mqar {n + 3} pairs"} for n in range(4)),
    {"name": "adding", "n": 1, "label": SCRIPT},
    {"name": "adding", "n": 2, "label": LONG},
    {"name": "adding", "n": 3, "label": "adding, three"},
    {"name": "adding", "n": 4, "label": "adding & four"},
]
LENGTHS = [2**n for n in range(6, 14)]
N_SEEDS = 5
POSITIONS = (1, 1000, 100_000)


def generated(folder: Path, **changes: Any) -> tuple[Study, Store]:
    """12 architectures x 10 tasks x 8 lengths x 5 seeds, with what failed, and what is missing."""
    given: dict[str, Any] = {
        "architectures": ARCHITECTURES,
        "tasks": TASKS,
        "lengths": LENGTHS,
        "seeds": N_SEEDS,
    }
    runs, store = synthetic.runs(**{**given, **changes}), Store(folder)
    synthetic.pack(store, map(_with_instruments, synthetic.came(runs)))
    return synthetic.study(runs, folder, title=f"Generated {SCRIPT}", question=LONG), store


def _with_instruments(row: Row) -> Row:
    """Streams and gradients too, of the first tasks."""
    run = Run.model_validate(row.run)
    measured = row.status == "ok" and run.purpose == "measure" and run.length == LENGTHS[1]
    if not measured or str(run.task) not in ("mqar", SCRIPT):
        return row
    metrics = {**row.metrics, **dict(_streams(run)), **_reach(run)}
    return row.model_copy(update={"metrics": metrics})


def _streams(run: Run) -> Iterator[tuple[str, float | str]]:
    grows = run.architecture.name == "transformer"
    for position in POSITIONS:
        value = 500.0 + 40 * run.architecture.options.get("layers", 1)
        value *= 1 + position / 1000 * grows
        for end, factor in (("", 1), ("_low", 0.95), ("_high", 1.06)):
            yield f"stream_us_p50_at_{position}{end}", value * factor
        yield f"stream_us_p99_at_{position}", value * 1.8
        yield f"stream_state_bytes_at_{position}", 1024.0 * (position if grows else 1)
    yield "stream_latency_verdict", "growing" if grows else "flat"
    yield "stream_state_verdict", "growing" if grows else "flat"


def _reach(run: Run) -> dict[str, float | str]:
    distances = [2**n for n in range(8)]
    rate = 0.9 if run.architecture.name == "rnn" else 0.99
    curves = {
        "k": distances,
        "init": [rate**k for k in distances],
        "trained": [rate ** (k / 2) for k in distances],
    }
    found: dict[str, float | str] = {"reach_input_json": json.dumps(curves), "clipped_share": 0.5}
    for stage, factor in (("init", 1), ("trained", 2)):
        decay = factor / (1 - rate)
        found |= {
            f"reach_input_{stage}_verdict": "vanishing",
            f"reach_input_{stage}_decay_tokens": decay,
            f"reach_input_{stage}_decay_tokens_low": 0.9 * decay,
            f"reach_input_{stage}_decay_tokens_high": 1.1 * decay,
            f"reach_input_{stage}_effective_tokens": min(128.0, 4 * decay),
            f"jacobian_{stage}_max": rate,
        }
    return found
