"""Sweeps on this machine: every cell leaves a row, whatever happens to it or to the launcher."""

import fcntl
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bench.errors import UserError
from bench.launch import entry, sweep
from bench.launch.pool import Pool, memory_share
from bench.launch.progress import Progress
from bench.records.store import Store
from bench.spec import Run, parse_run
from bench.study import load
from tests import synthetic

STUDY = """
title: t
base:
  width: 16
  training: {steps: 6, batch_size: 8}
grid:
  architecture: [gru, rnn]
  task: [parity]
  length: [12]
  seed: [0, 1, 2]
"""

PATIENCE_S = 120.0


class Silent:
    """A watcher that remembers."""

    def __init__(self) -> None:
        self.ended: dict[str, str] = {}
        self.on_tick = lambda: None

    def started(self, run: Run) -> None: ...

    def waiting(self, reason: str) -> None: ...

    def finished(self, run: Run, status: str, reason: str) -> None:
        self.ended[run.id] = status

    def tick(self) -> None:
        self.on_tick()


def a_study(folder: Path, text: str = STUDY):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "study.yaml").write_text(text)
    return load(folder), Store(folder)


def a_run(**changes: object) -> Run:
    training = {"steps": 6, "batch_size": 8, **changes.pop("training", {})}
    base = {"architecture": "gru", "task": "parity", "length": 12, "width": 16}
    return parse_run({**base, "training": training, **changes})


def run_cells(store: Store, runs: list[Run], workers: int = 2, watcher: Silent | None = None):
    watcher = watcher or Silent()
    plan = sweep.Plan(
        tuple(run for run in runs if run.purpose == "train"),
        tuple(run for run in runs if run.purpose == "measure"),
        0,
    )
    sweep.sweep("test", store, plan, workers, watcher)
    return {row.id: row for row in store.rows()}


def scores(store: Store) -> dict[str, object]:
    keep = ("test_score", "val_score", "best_step", "parameters")
    return {
        row.id: (row.status, *(row.metrics.get(key) for key in keep), row.curves)
        for row in store.rows()
    }


def start(folder: Path, *options: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "bench", "sweep", str(folder), *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def wait_for(condition, what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.05)


def processes_in(folder: Path) -> list[int]:
    """Processes that hold a log of this folder open: the workers."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            opened = [str(fd.readlink()) for fd in (process / "fd").iterdir()]
        except OSError:
            continue
        if any(name.startswith(str(folder / "work")) for name in opened):
            found.append(int(process.name))
    return found


def test_a_sweep_runs_what_is_missing_and_then_nothing(tmp_path):
    study, store = a_study(tmp_path)
    planned = sweep.plan(study, store)
    assert (planned.missing, planned.done) == (6, 0)
    rows = run_cells(store, list(planned.train))
    assert {row.status for row in rows.values()} == {"ok"}
    assert {row.id for row in rows.values()} == {run.id for run in study.runs}
    assert sweep.plan(study, store).missing == 0
    row = next(iter(rows.values()))
    assert row.provenance["threads"] == 1
    assert row.provenance["versions"]["torch"]
    assert row.resolved["data_fingerprint"]


def test_a_cell_that_takes_too_long_is_a_row_and_the_sweep_goes_on(tmp_path):
    store = Store(tmp_path)
    slow = a_run(training={"steps": 10**6}, resources={"timeout_s": 3.0})
    rows = run_cells(store, [slow, a_run()])
    assert rows[slow.id].status == "timeout"
    assert "3 s" in rows[slow.id].reason
    assert rows[a_run().id].status == "ok"
    assert processes_in(tmp_path) == []


def test_a_cell_that_runs_out_of_memory_is_a_row_and_the_sweep_goes_on(tmp_path):
    store = Store(tmp_path)
    large = a_run(
        width=1024, length=512, training={"batch_size": 64}, resources={"memory_bytes": 400 << 20}
    )
    rows = run_cells(store, [large, a_run()])
    assert rows[large.id].status == "oom", rows[large.id].reason
    assert "memory" in rows[large.id].reason.lower()
    assert rows[a_run().id].status == "ok"


def test_a_model_that_does_not_fit_is_out_of_memory_too(tmp_path):
    """Its parameters alone are too many; a wrong option, which raises in the same place, is not."""
    row = run_cells(Store(tmp_path), [large := a_run(width=100_000)])[large.id]
    assert row.status == "oom", row.reason


def test_a_worker_that_is_killed_leaves_a_row(tmp_path):
    store, watcher = Store(tmp_path), Silent()
    run = a_run(training={"steps": 10**6})

    def kill() -> None:
        for pid in processes_in(tmp_path):
            os.kill(pid, signal.SIGKILL)

    watcher.on_tick = kill
    rows = run_cells(store, [run], watcher=watcher)
    assert rows[run.id].status == "failed"
    assert "SIGKILL" in rows[run.id].reason


def test_a_cell_that_raises_leaves_a_row_with_its_log(tmp_path):
    run = a_run(task={"name": "python_bytes", "n_eval_bytes": 10**9}, length=64)
    row = run_cells(Store(tmp_path), [run])[run.id]
    assert row.status == "failed"
    assert "n_eval_bytes" in row.reason
    assert row.log_tail.endswith(row.reason)


def test_a_run_that_another_process_holds_is_left_to_it(tmp_path):
    store, watcher, run = Store(tmp_path), Silent(), a_run()
    sweep.make_writable(tmp_path)
    with entry.log_file(tmp_path, run.id).open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        run_cells(store, [run], watcher=watcher)
    assert watcher.ended == {run.id: "elsewhere"}
    assert store.ids() == set()


@pytest.mark.parametrize("launcher_looks", [True, False])
def test_a_run_that_got_its_row_meanwhile_is_not_run_again(tmp_path, monkeypatch, launcher_looks):
    """The launcher looks before it starts a worker, and the worker once it holds the lock."""
    store, run = Store(tmp_path), a_run()
    run_cells(store, [run])
    if not launcher_looks:
        monkeypatch.setattr(Store, "has", lambda self, row_id: False)
    before = (tmp_path / "rows" / f"{run.id}.json").read_bytes()
    run_cells(store, [run])
    assert (tmp_path / "rows" / f"{run.id}.json").read_bytes() == before


def test_a_killed_sweep_continues_to_the_table_of_an_undisturbed_one(tmp_path):
    text = STUDY.replace("steps: 6", "steps: 80").replace("length: [12]", "length: [32]")
    undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
    study, store = a_study(undisturbed, text)
    run_cells(store, list(study.runs))
    study, killed_store = a_study(killed, text)
    process = start(killed)
    wait_for(lambda: killed_store.ids() and processes_in(killed), "a row and a worker")
    os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=PATIENCE_S)
    wait_for(lambda: not processes_in(killed), "the workers of a killed launcher to end")
    left = sweep.plan(study, killed_store).missing
    assert 0 < left < 6
    again = start(killed)
    output, _ = again.communicate(timeout=PATIENCE_S)
    assert again.returncode == 0, output
    assert f"{left} cells to run" in output
    assert scores(killed_store) == scores(store)


def test_workers_do_not_outlive_a_launcher_that_is_killed(tmp_path):
    text = STUDY.replace("steps: 6", "steps: 1000000000")
    a_study(tmp_path, text)
    process = start(tmp_path)
    wait_for(lambda: len(processes_in(tmp_path)) == 2, "two workers")
    os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=PATIENCE_S)
    wait_for(lambda: not processes_in(tmp_path), "the workers of a killed launcher to end")


def test_ctrl_c_leaves_whole_rows_and_no_process(tmp_path):
    text = STUDY.replace("steps: 6", "steps: 400").replace("length: [12]", "length: [48]")
    _, store = a_study(tmp_path, text)
    process = start(tmp_path)
    wait_for(lambda: processes_in(tmp_path), "a worker")
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to all of them
    output, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130, output
    assert "cells left; the same command goes on" in output
    assert "Traceback" not in output
    assert processes_in(tmp_path) == []
    assert all(row.status == "ok" for row in store.rows())


def test_two_sweeps_of_one_study_run_no_cell_twice(tmp_path):
    text = STUDY.replace("steps: 6", "steps: 60")
    study, store = a_study(tmp_path, text)
    both = [start(tmp_path), start(tmp_path)]
    outputs = [process.communicate(timeout=PATIENCE_S)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], outputs
    assert store.ids() == {run.id for run in study.runs}
    assert {row.status for row in store.rows()} == {"ok"}


def test_ctrl_c_while_everything_is_imported_prints_no_traceback(tmp_path):
    a_study(tmp_path, STUDY)
    process = start(tmp_path)
    assert process.stdout is not None
    assert "6 cells to run" in process.stdout.readline()
    time.sleep(1.0)  # the server that forks the workers imports torch for some seconds
    os.killpg(process.pid, signal.SIGINT)
    output, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130, output
    assert "Traceback" not in output


def test_a_run_on_several_nodes_is_refused_here(tmp_path):
    study, store = a_study(tmp_path, STUDY.replace("width: 16", "resources.nodes: 2"))
    with pytest.raises(UserError, match="nodes is 2"):
        sweep.plan(study, store)
    assert sweep.plan(study, store, cluster=True).missing == 6


def test_a_row_that_cannot_be_read_is_not_taken_for_done(tmp_path):
    study, store = a_study(tmp_path)
    sweep.make_writable(tmp_path)
    (tmp_path / "rows" / f"{study.runs[0].id}.json").write_text('{"id": ')
    with pytest.raises(UserError, match=study.runs[0].id):
        sweep.plan(study, store)


def test_a_folder_that_cannot_be_written_is_an_error_before_anything_runs(tmp_path):
    (tmp_path / "rows").write_text("a file where the folder should be")
    with pytest.raises(UserError, match="cannot write to"):
        run_cells(Store(tmp_path), [a_run()])


def test_measuring_leaves_rows_with_speed_and_memory(tmp_path):
    measure = {"instruments": ["throughput", "memory"], "seconds_per_cell": 0.05, "min_rounds": 3}
    runs = [
        a_run(architecture=name, training={"steps": 0}, measure=measure)
        for name in ("gru", "rnn", "bilstm_stack")
    ]
    rows = run_cells(Store(tmp_path), runs)
    assert {row.status for row in rows.values()} == {"ok"}, rows
    for row in rows.values():
        assert row.metrics["train_tokens_per_s"] > 0
        assert 0 <= row.metrics["peak_bytes"] < 200 << 20
        assert row.metrics["memory_method"] == "malloc-counter"
        assert row.metrics["peak_bytes"] >= row.metrics["activation_bytes"] > 0
    assert not list((tmp_path / "work").glob("*.memory.json"))


def test_measuring_waits_until_the_machine_is_free(tmp_path, monkeypatch):
    """No speed is taken while another sweep of this user trains."""
    monkeypatch.setenv("SEQBENCH_MACHINE_LOCK", str(tmp_path / "lock"))
    descriptor = os.open(tmp_path / "lock", os.O_RDONLY | os.O_CREAT)
    fcntl.flock(descriptor, fcntl.LOCK_SH)
    waited: list[str] = []
    watcher = Silent()

    def release(reason: str) -> None:
        waited.append(reason)
        os.close(descriptor)

    watcher.waiting = release
    run = a_run(training={"steps": 0}, measure={"instruments": ["memory"]})
    run_cells(Store(tmp_path / "study"), [run], watcher=watcher)
    assert len(waited) == 1


def test_a_measurement_that_kills_its_process_costs_its_own_row_alone(tmp_path, monkeypatch):
    runs = [
        a_run(architecture=name, training={"steps": 0}, measure={"instruments": ["throughput"]})
        for name in ("gru", "rnn", "lstm")
    ]
    poison, store = runs[1].id, Store(tmp_path)
    sweep.make_writable(tmp_path)

    def session(self: Pool, group: list[Run], target: object, arguments: object) -> int:
        if any(run.id == poison for run in group):
            return -signal.SIGSEGV
        for run in group:
            self.leave_row(run, "ok", "")
        return 0

    monkeypatch.setattr(Pool, "session", session)
    rows = run_cells(store, runs)
    assert {id_: row.status for id_, row in rows.items()} == {
        run.id: "failed" if run.id == poison else "ok" for run in runs
    }
    assert "SIGSEGV" in rows[poison].reason


@pytest.mark.slow
def test_two_ranks_train_and_score_as_one_process_does(tmp_path):
    """Gradients and metrics of a global batch, whatever share each rank has: here 2 and 1."""
    bytes_ = {"name": "python_bytes", "n_eval_bytes": 2048}
    alone = a_run(task=bytes_, length=64, training={"batch_size": 3, "steps": 20})
    both = alone.model_copy(update={"resources": alone.resources.model_copy(update={"devices": 2})})
    rows = run_cells(Store(tmp_path), [alone, both], workers=1)
    one, two = rows[alone.id], rows[both.id]
    assert (one.status, two.status) == ("ok", "ok"), two.log_tail
    assert two.provenance["world_size"] == 2
    # Bits per byte and nats, after float32 sums in another order through twenty updates.
    assert two.metrics["test_score"] == pytest.approx(one.metrics["test_score"], abs=1e-4)
    for curve in ("train_loss", "val_bits_per_byte"):
        expected = [value for _, value in one.curves[curve]]
        assert [value for _, value in two.curves[curve]] == pytest.approx(expected, abs=1e-4)


def test_the_memory_of_the_machine_is_shared_out():
    share = memory_share(2)
    assert share is None or 0 < 2 * share < memory_share(1) * 2.1


def test_a_ctrl_c_says_how_many_cells_have_no_row(capsys):
    runs = synthetic.runs(lengths=[64], seeds=1)[:3]
    progress = Progress(3, 0, 2)
    progress.finished(runs[0], "ok", "")
    progress.finished(runs[1], "stopped", "asked to leave; goes on later")
    progress.interrupted()
    assert "interrupted: 2 cells left" in capsys.readouterr().out
    progress.finished(runs[2], "ok", "")
    progress.interrupted()
    assert "interrupted: 1 cell left" in capsys.readouterr().out
