"""How far a study is: every cell in one state, by rows, claims, checkpoints and the queue."""

import fcntl
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bench.commands.status import as_data, clock, lines
from bench.launch import status
from bench.launch.claim import DEAD_S
from bench.launch.slurm import queue
from bench.launch.slurm.submission import OnTheWay
from bench.records import checkpoints
from bench.records.store import Store
from tests import synthetic
from tests.test_claim import leave

STUDY = """
title: t
base:
  width: 16
  training: {steps: 300}
grid:
  architecture: [lstm]
  task: [mqar]
  length: [128]
  seed: [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]
"""


@pytest.fixture
def ten(tmp_path: Path):
    """A study of ten cells, their store, and their runs."""
    from bench.study import load

    folder = tmp_path / "a 'study'; $(touch pwned)\n[bold]"
    (folder / "work").mkdir(parents=True)
    (folder / "study.yaml").write_text(STUDY)
    study = load(folder)
    return study, Store(study.folder), study.runs


@pytest.fixture
def nothing_queued(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(status, "on_the_way", lambda folder, missing: OnTheWay({}))


def log_of(store: Store, run) -> Path:
    return store.folder / "work" / f"{run.id}.log"


def held(store: Store, run) -> int:
    """A claim whose process lives: somebody holds the lock."""
    leave(log_of(store, run), host="node7", slurm_job_id="88_3", restart=1)
    descriptor = os.open(log_of(store, run), os.O_WRONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    return descriptor


def task_of(**changes: object) -> queue.Task:
    return queue.Task(
        **{"job_id": 88, "index": 3, "state": "pending", "reason": "Priority", **changes}
    )


def checkpointed(store: Store, run) -> None:
    folder = checkpoints.folder_of(store.folder, run.id)
    folder.mkdir(parents=True)
    checkpoints.file_of(folder, 20).write_bytes(b"x")


def states(found: status.Overview) -> list[str]:
    return [cell.state for cell in found.cells]


def text(found: status.Overview) -> str:
    return "\n".join(lines(found))


def test_every_cell_is_in_one_state(ten, monkeypatch):
    study, store, runs = ten
    monkeypatch.setattr(
        status, "on_the_way", lambda folder, missing: OnTheWay({runs[5].id: task_of()})
    )
    store.write(synthetic.row(runs[0]))
    store.write(synthetic.row(runs[1], "oom", reason="out of memory: 9.1 GiB asked"))
    store.write(synthetic.row(runs[2], "oom", reason="out of memory: 3 GiB asked"))
    store.write(synthetic.row(runs[3], "diverged", reason="the loss became nan at step 120"))
    leave(log_of(store, runs[0]))  # a row says more than a claim
    descriptor = held(store, runs[4])
    leave(log_of(store, runs[6]))
    checkpointed(store, runs[7])
    checkpointed(store, runs[0])
    found = status.overview(study, store)
    os.close(descriptor)
    assert states(found) == [
        *("done", "oom", "oom", "diverged", "running"),
        *("pending", "lost", "requeued", "pending", "pending"),
    ]
    assert found.counts() == {
        "done": 1,
        "running": 1,
        "requeued": 1,
        "pending": 3,
        "lost": 1,
        "oom": 2,
        "diverged": 1,
    }
    assert sum(found.counts().values()) == 10
    shown = text(found)
    assert "10 cells: 1 done, 1 running, 1 requeued, 3 pending, 1 lost, 2 oom, 1 diverged" in shown
    assert "node7 process 4194305, job 88_3, restart 1" in shown
    assert "2 x out of memory: 9.1 GiB asked" in shown  # alike but for the number
    assert "1 in the queue: Priority" in shown
    assert "2 in no job" in shown
    assert "goes on from its checkpoint with the next sweep" in shown
    assert "bench retry --only lost" in shown


@pytest.mark.usefixtures("nothing_queued")
def test_looking_changes_nothing(ten):
    study, store, runs = ten
    store.write(synthetic.row(runs[0]))
    leave(log_of(store, runs[1]))

    def everything() -> dict[str, tuple[int, bytes]]:
        files = (path for path in store.folder.rglob("*") if path.is_file())
        return {str(path): (path.stat().st_mtime_ns, path.read_bytes()) for path in files}

    before = everything()
    text(status.overview(study, store))
    assert everything() == before


@pytest.mark.parametrize("state", ["pending", "requeued", "running"])
def test_a_dead_claim_whose_job_starts_again_is_not_lost(ten, monkeypatch, state):
    study, store, runs = ten
    tasks = {runs[0].id: task_of(state=state, restarts=1)}
    monkeypatch.setattr(status, "on_the_way", lambda folder, missing: OnTheWay(tasks))
    leave(log_of(store, runs[0]))
    found = status.overview(study, store)
    assert found.cells[0].state == "requeued"
    assert f"job 88_3 ({state})" in text(found)


@pytest.mark.usefixtures("nothing_queued")
def test_a_claim_of_another_host_is_running_until_it_is_old(ten):
    study, store, runs = ten
    leave(log_of(store, runs[0]), host="elsewhere")
    leave(log_of(store, runs[1]), host="elsewhere", age_s=DEAD_S + 1)
    assert states(status.overview(study, store))[:2] == ["running", "lost"]


def test_the_queue_is_asked_for_what_is_missing_and_its_silence_is_said(ten, monkeypatch):
    study, store, runs = ten
    store.write(synthetic.row(runs[0]))
    asked = []

    def on_the_way(folder: Path, missing: set[str]) -> OnTheWay:
        asked.append((folder, missing))
        return OnTheWay({}, "squeue is not on the PATH")

    monkeypatch.setattr(status, "on_the_way", on_the_way)
    found = status.overview(study, store)
    assert asked == [(store.folder, {run.id for run in runs[1:]})]
    assert "problem: squeue is not on the PATH; what is in the queue is unknown" in text(found)


@pytest.mark.usefixtures("nothing_queued")
def test_rows_that_cannot_be_read_are_named_and_the_rest_is_told(ten):
    study, store, runs = ten
    for run in runs[:3]:
        store.write(synthetic.row(run))
    damaged = store.live_folder / f"{runs[1].id}.json"
    damaged.write_text('{"id": ')
    (store.live_folder / "notes.txt").write_text("hello")
    found = status.overview(study, store)
    assert states(found)[:3] == ["done", "pending", "done"]
    assert [str(damaged) in problem for problem in found.problems].count(True) == 1
    assert any("notes.txt is no row" in problem for problem in found.problems)


@pytest.mark.usefixtures("nothing_queued")
def test_packed_rows_count_too_and_damaged_ones_are_named(ten):
    study, store, runs = ten
    store.write(synthetic.row(runs[0]))
    store.write(synthetic.row(runs[1], "timeout", reason="stopped after 3 s"))
    store.pack()
    store.write(synthetic.row(runs[2]))
    found = status.overview(study, store)
    assert states(found)[:4] == ["done", "timeout", "done", "pending"]
    assert found.cells[1].reason == "stopped after 3 s"
    store.packed_file.write_bytes(b"PAR1")
    found = status.overview(study, store)
    assert states(found)[:4] == ["pending", "pending", "done", "pending"]
    assert any("rows.parquet" in problem for problem in found.problems)


@pytest.mark.usefixtures("nothing_queued")
@pytest.mark.parametrize("kind", ["no folder", "unreadable"])
def test_a_work_folder_that_cannot_be_read_is_said_and_the_rows_are_told(ten, monkeypatch, kind):
    study, store, runs = ten
    store.write(synthetic.row(runs[0]))
    if kind == "no folder":
        (store.folder / "work").rmdir()
        (store.folder / "work").write_text("a file")
    else:

        def scandir(folder: Path):
            raise PermissionError(13, "Permission denied", str(folder))

        monkeypatch.setattr(os, "scandir", scandir)
    found = status.overview(study, store)
    assert states(found) == ["done"] + ["pending"] * 9
    (problem,) = found.problems
    assert problem.startswith(f"cannot read {store.folder / 'work'}: ")
    assert problem.endswith("what runs is unknown")


@pytest.mark.usefixtures("nothing_queued")
def test_rows_of_other_runs_are_counted_apart(ten):
    study, store, _ = ten
    store.write(synthetic.row(synthetic.run(seed=99)))
    found = status.overview(study, store)
    assert found.counts() == {"pending": 10}
    assert "1 row of no run of the study" in text(found)


def took(run, seconds: float) -> status.Cell:
    return status.Cell(run, "done", seconds=seconds)


def test_the_time_to_go_is_what_cells_of_that_kind_took_over_how_many_run():
    short = [synthetic.run(length=128, seed=seed) for seed in range(4)]
    long = [synthetic.run(length=512, seed=seed) for seed in range(4)]
    other = synthetic.run("gru", length=2048)
    now = time.time()
    cells = [
        *(took(short[0], 10.0), took(short[1], 20.0), took(long[0], 90.0)),
        status.Cell(short[2], "running", since_unix_s=now - 5.0),  # 10 s left
        status.Cell(long[1], "running", since_unix_s=now - 500.0),  # late: nothing left
        *(status.Cell(run, "pending") for run in (short[3], long[2])),  # 15 and 90 s
        status.Cell(long[3], "lost"),  # 90 s
        status.Cell(other, "requeued"),  # as the mean of all: 40 s
        status.Cell(other, "oom"),  # nobody runs it again
    ]
    assert status.seconds_to_go(cells) == pytest.approx((10 + 15 + 90 + 90 + 40) / 2, abs=0.5)


def test_without_a_cell_that_runs_or_one_that_ended_the_time_to_go_is_unknown():
    run = synthetic.run()
    assert status.seconds_to_go([took(run, 10.0), status.Cell(run, "pending")]) is None
    running = status.Cell(run, "running", since_unix_s=time.time())
    assert status.seconds_to_go([running]) is None
    assert status.seconds_to_go([]) is None


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (-3, "0:00"),
        (59.6, "1:00"),
        (3723, "1:02:03"),
        (90_061, "1 day 1:01:01"),
        (172_800, "2 days 0:00:00"),
    ],
)
def test_times_are_shown_as_clocks_show_them(seconds, shown):
    assert clock(seconds) == shown


@pytest.mark.usefixtures("nothing_queued")
def test_the_data_have_every_cell_and_survive_json(ten):
    study, store, runs = ten
    store.write(synthetic.row(runs[0]))
    leave(log_of(store, runs[1]), host="a\nhost", age_s=DEAD_S + 1)
    data = json.loads(json.dumps(as_data(status.overview(study, store))))
    assert data["counts"] == {"done": 1, "lost": 1, "pending": 8}
    assert [cell["id"] for cell in data["cells"]] == [run.id for run in runs]
    assert data["cells"][1]["where"].startswith("a\nhost process 4194305")
    assert data["n_cells"] == 10
    assert data["seconds_to_go"] is None


@pytest.mark.usefixtures("nothing_queued")
def test_hostile_text_does_nothing_to_a_terminal(ten):
    study, store, runs = ten
    store.write(synthetic.row(runs[0], "failed", reason="\x1b[2J\x07 bell [red]\nsecond"))
    leave(log_of(store, runs[1]), host="\x1b]0;title\x07")
    found = list(lines(status.overview(study, store)))
    assert not [line for line in found if "\x1b" in line or "\x07" in line or "\n" in line]


def test_status_and_cancel_of_a_local_study_by_the_command_line(ten, tmp_path):
    study, store, runs = ten
    store.write(synthetic.row(runs[0]))

    def bench(*words: object):
        return subprocess.run(
            [sys.executable, "-m", "bench", *map(str, words)], capture_output=True, text=True
        )

    done = bench("status", study.folder)
    assert (done.returncode, done.stderr) == (0, "")
    assert "10 cells: 1 done, 9 pending" in done.stdout
    assert "nothing runs" in done.stdout
    data = json.loads(bench("status", study.folder, "-f", "json").stdout)
    assert data["counts"] == {"done": 1, "pending": 9}
    done = bench("cancel", study.folder)
    assert (done.returncode, done.stderr) == (0, "")
    assert "is in the queue" in done.stdout
    for words in (["status", tmp_path / "none"], ["cancel", tmp_path / "none"]):
        done = bench(*words)
        assert done.returncode == 2
        assert done.stderr.startswith("bench: no study at")


def test_status_needs_no_torch(ten):
    study, _, _ = ten
    code = (
        "import sys\nfrom bench.cli import main\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code\n"
        "assert not {'torch', 'lightning', 'pandas', 'altair', 'scipy'} & set(sys.modules)\n"
    )
    words = [sys.executable, "-c", code, "status", str(study.folder)]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
