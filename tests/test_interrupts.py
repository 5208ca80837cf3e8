"""Signals to workers and launchers: runs leave a checkpoint, and the same command goes on."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from bench.launch import entry, sweep
from bench.launch.pool import Pool
from bench.launch.stopping import Stopped
from bench.records import checkpoints
from bench.records.provenance import provenance
from bench.records.store import Store
from bench.training import interrupts
from bench.training.module import TrainingModule
from tests.small_run import row_of
from tests.test_launch import (
    PATIENCE_S,
    Silent,
    a_run,
    a_study,
    processes_in,
    run_cells,
    scores,
    start,
    wait_for,
)

EVERY_S = 0.2
SHORT_LOOKS = {"name": "parity", "n_val": 32, "n_test": 32}
LONG = {
    "task": SHORT_LOOKS,
    "training": {"steps": 800, "val_every": 300},
    "resources": {"checkpoint_s": EVERY_S},
}


def long_study(seeds: str) -> str:
    """A study of cells that are long enough to be stopped in the middle."""
    return f"""
title: t
base: {{architecture: gru, width: 16, length: 12, {json.dumps(LONG)[1:-1]}}}
grid: {{seed: {seeds}}}
"""


def ckpts(folder: Path) -> list[Path]:
    return sorted((folder / "work" / "checkpoints").glob("*/step-*.ckpt"))


def pool_of(folder: Path, watcher: Silent, **options: object) -> Pool:
    sweep.make_writable(folder)
    return Pool(Store(folder), "test", provenance(), watcher, **options)


def signalled(folder: Path, number: int, rank: int = 0, run=None) -> tuple[Pool, Silent]:
    """A run whose worker gets a signal once it has made a checkpoint."""
    watcher = Silent()
    pool = pool_of(folder, watcher)

    def send() -> None:
        if ckpts(folder) and pool.alive:
            os.kill(pool.alive[0].processes[rank].pid, number)
            watcher.on_tick = lambda: None

    watcher.on_tick = send
    pool.each([run], 1, entry.train)
    return pool, watcher


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGTERM])
def test_a_worker_that_is_asked_to_leave_leaves_a_checkpoint_and_no_row(tmp_path, number):
    run = a_run(**LONG)
    pool, watcher = signalled(tmp_path / "stopped", number, run=run)
    assert watcher.ended == {run.id: "stopped"}
    assert pool.stopped == [run]
    store = Store(tmp_path / "stopped")
    assert store.ids() == set()
    assert number.name in entry.log_file(store.folder, run.id).read_text()
    row = run_cells(store, [run])[run.id]
    assert row.provenance["continued"] == 1
    assert ckpts(store.folder) == []  # the row is there
    other = Store(tmp_path / "undisturbed")
    run_cells(other, [run])
    assert scores(store) == scores(other)


@pytest.mark.slow
def test_a_run_whose_machine_dies_goes_on(tmp_path):
    """Worker and launcher killed at once, as by a node that loses power."""
    text = long_study("[0]")
    _, store = a_study(tmp_path / "killed", text)
    process = start(store.folder)
    wait_for(lambda: ckpts(store.folder), "a checkpoint")
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate(timeout=PATIENCE_S)
    wait_for(lambda: not processes_in(store.folder), "the end")
    assert store.ids() == set()
    again = start(store.folder)
    output, _ = again.communicate(timeout=PATIENCE_S)
    assert again.returncode == 0, output
    study, other = a_study(tmp_path / "undisturbed", text)
    run_cells(other, list(study.runs))
    assert scores(store) == scores(other)
    assert [row.provenance["continued"] for row in store.rows()] == [1]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "to_all"),
    [(signal.SIGTERM, True), (signal.SIGUSR1, False)],
    ids=["SIGTERM to all", "SIGUSR1 to the launcher"],
)
def test_a_sweep_that_is_stopped_goes_on_with_the_same_command(tmp_path, number, to_all):
    text = long_study("[0, 1]")
    study, store = a_study(tmp_path / "stopped", text)
    process = start(store.folder, "--workers", "2")
    wait_for(lambda: len({path.parent for path in ckpts(store.folder)}) == 2, "checkpoints")
    (os.killpg if to_all else os.kill)(process.pid, number)
    output, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 128 + number, output
    assert "the same command goes on" in output
    assert "Traceback" not in output
    assert processes_in(store.folder) == []
    assert store.ids() == set()
    assert len({path.parent for path in ckpts(store.folder)}) == 2
    again = start(store.folder)
    output, _ = again.communicate(timeout=PATIENCE_S)
    assert again.returncode == 0, output
    _, other = a_study(tmp_path / "undisturbed", text)
    run_cells(other, list(study.runs))
    assert scores(store) == scores(other)
    assert [row.provenance["continued"] for row in store.rows()] == [1, 1]


def test_a_sweep_that_waits_for_the_machine_leaves_at_once(tmp_path, monkeypatch):
    import fcntl

    lock = tmp_path / "lock"
    monkeypatch.setenv("SEQBENCH_MACHINE_LOCK", str(lock))
    descriptor = os.open(lock, os.O_RDONLY | os.O_CREAT)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    watcher = Silent()
    watcher.waiting = lambda reason: signal.raise_signal(signal.SIGTERM)
    with pytest.raises(Stopped, match="SIGTERM"):
        run_cells(Store(tmp_path / "study"), [a_run()], watcher=watcher)
    os.close(descriptor)
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_a_worker_that_does_not_leave_is_killed_after_the_grace(tmp_path):
    watcher = Silent()
    pool = pool_of(tmp_path, watcher, grace_s=1.0)
    run = a_run(training={"steps": 10**6})

    def freeze_and_stop() -> None:
        if processes_in(tmp_path):
            watcher.on_tick = lambda: None
            os.kill(pool.alive[0].processes[0].pid, signal.SIGSTOP)
            signal.raise_signal(signal.SIGTERM)

    watcher.on_tick = freeze_and_stop
    with pytest.raises(Stopped), pool.heeding_signals():
        pool.each([run], 1, entry.train)
    assert processes_in(tmp_path) == []
    assert Store(tmp_path).ids() == set()


def test_measuring_leaves_at_once_and_without_a_row(tmp_path):
    watcher = Silent()
    pool = pool_of(tmp_path, watcher)
    measure = {"instruments": ["throughput"], "seconds_per_cell": 1000.0, "min_rounds": 10**6}
    run = a_run(training={"steps": 0}, measure=measure)

    def stop() -> None:
        if processes_in(tmp_path):
            watcher.on_tick = lambda: None
            signal.raise_signal(signal.SIGUSR1)

    watcher.on_tick = stop
    with pytest.raises(Stopped), pool.heeding_signals():
        pool.session([run], entry.measure_session, ({run.id: {}},))
    assert processes_in(tmp_path) == []
    assert Store(tmp_path).ids() == set()


def test_lightning_does_not_take_the_signals(monkeypatch):
    """It would, and would talk to the other ranks in its handler."""
    seen = []
    original = TrainingModule.training_step

    def look(self, batch, batch_index):
        seen.append(signal.getsignal(signal.SIGTERM))
        return original(self, batch, batch_index)

    monkeypatch.setattr(TrainingModule, "training_step", look)
    before = signal.signal(signal.SIGTERM, interrupts._note)
    try:
        assert row_of(a_run()).status == "ok"
        assert signal.getsignal(signal.SIGTERM) is interrupts._note
    finally:
        signal.signal(signal.SIGTERM, before)
    assert set(seen) == {interrupts._note}


def test_the_flag_needs_no_torch():
    """A signal must not come before the handler, and torch takes seconds to import."""
    code = "import sys, bench.launch.entry; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


TWO = {"devices": 2, "checkpoint_s": EVERY_S}


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_a_signal_to_one_rank_stops_both_and_the_row_is_the_same(tmp_path, rank):
    bytes_ = {"name": "python_bytes", "n_eval_bytes": 2048}
    run = a_run(
        architecture={"name": "gru", "dropout": 0.2},
        task=bytes_,
        length=32,
        training={"batch_size": 3, "steps": 400, "val_every": 150},
        resources=TWO,
    )
    _, watcher = signalled(tmp_path / "stopped", signal.SIGUSR1, rank, run)
    assert watcher.ended == {run.id: "stopped"}
    assert processes_in(tmp_path) == []
    store, other = Store(tmp_path / "stopped"), Store(tmp_path / "undisturbed")
    row = run_cells(store, [run])[run.id]
    assert row.status == "ok", row.log_tail
    assert row.provenance["continued"] == 1
    whole = run_cells(other, [run])[run.id]
    assert scores(store) == scores(other)
    times = ("train_seconds", "observed_train_tokens_per_s")
    keep = [{k: v for k, v in r.metrics.items() if k not in times} for r in (row, whole)]
    assert keep[0] == keep[1]
    assert checkpoints.found(checkpoints.folder_of(store.folder, run.id)) == []
