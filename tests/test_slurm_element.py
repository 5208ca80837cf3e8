"""What a node does: the cells of its element, each once, and nothing that nobody wants any more."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bench.errors import UserError
from bench.launch import entry
from bench.launch.autopsy import lost_peer
from bench.launch.pool import Pool, local_places
from bench.launch.progress import Progress
from bench.launch.slurm import element, meeting, submission
from bench.launch.slurm.script import RERUN
from bench.records.row import Row
from bench.records.store import Store
from bench.spec import Run
from bench.study import load

STUDY = """
title: t
base: {width: 16, training: {steps: 6, batch_size: 8}}
grid:
  architecture: [gru]
  task: [parity]
  length: [12]
  seed: [0, 1, 2]
"""
PATIENCE_S = 240.0


def a_plan(folder: Path, text: str = STUDY, max_requeues: int = 3) -> Path:
    """The plan of a study whose cells are one element."""
    (folder / "study.yaml").write_text(text)
    study = load(folder)
    header = submission.PlanHeader(
        study=study.name,
        folder=folder,
        study_file=folder / "study.yaml",
        study_digest=submission.digest(folder / "study.yaml"),
        max_requeues=max_requeues,
    )
    plan = submission.folder_of(folder) / "now" / "plan-0.jsonl"
    submission.write_plan(plan, header, [study.runs])
    return plan


def start(plan: Path, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "bench", "work", str(plan), "0"],
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def rows(folder: Path) -> list[Row]:
    return list(Store(folder).rows())


def finish(folder: Path, run: Run) -> None:
    Store(folder).write(Row(id=run.id, study="s", status="ok", run=run.model_dump(mode="json")))


@pytest.mark.slow
def test_an_element_does_its_cells_once(tmp_path):
    plan = a_plan(tmp_path)
    job = {"SLURM_ARRAY_JOB_ID": "12", "SLURM_ARRAY_TASK_ID": "3", "SLURM_RESTART_COUNT": "2"}
    process = start(plan, **job)
    said, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, said
    first = rows(tmp_path)
    assert [row.status for row in first] == ["ok"] * 3
    assert {row.provenance["slurm_job_id"] for row in first} == {"12_3"}
    assert {row.provenance["requeues"] for row in first} == {2}
    again = start(plan)
    said, _ = again.communicate(timeout=PATIENCE_S)
    assert again.returncode == 0
    assert "0 cells to run, 3 done" in said
    assert rows(tmp_path) == first


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGTERM])
def test_an_element_that_is_asked_to_leave_says_that_it_goes_on(tmp_path, number):
    plan = a_plan(tmp_path, STUDY.replace("steps: 6", "steps: 100_000"))
    process = start(plan)
    logs, deadline = tmp_path / "work", time.monotonic() + PATIENCE_S
    while not list(logs.glob("*.log")) and time.monotonic() < deadline:
        time.sleep(0.1)
    time.sleep(1.0)
    process.send_signal(number)
    process.communicate(timeout=PATIENCE_S)
    assert process.returncode == entry.REQUEUE
    assert not rows(tmp_path)


def test_cells_that_are_requeued_too_often_get_a_row(tmp_path, monkeypatch):
    plan = a_plan(tmp_path)
    study = load(tmp_path)
    finish(tmp_path, study.runs[0])
    monkeypatch.setenv("SLURM_RESTART_COUNT", "4")
    assert element.work(plan, 0) == 0
    by_id = {row.id: row for row in rows(tmp_path)}
    assert by_id[study.runs[0].id].status == "ok"
    for run in study.runs[1:]:
        row = by_id[run.id]
        assert (row.status, row.provenance["requeues"]) == ("preempted", 4)
        assert row.reason == "given up after 3 requeues (max_requeues of the profile)"


def test_cells_that_the_study_no_longer_asks_for_are_left_out(tmp_path, capsys):
    plan = a_plan(tmp_path)
    study = load(tmp_path)
    (tmp_path / "study.yaml").write_text(STUDY.replace("[0, 1, 2]", "[1, 2]"))
    wanted = element.still_wanted(*submission.read_plan(plan, 0))
    assert [run.id for run in wanted] == [run.id for run in study.runs[1:]]
    assert "1 cells left out: the study was changed" in capsys.readouterr().out
    (tmp_path / "study.yaml").write_text("title: [")
    with pytest.raises(
        UserError, match=r"the study was changed since it was submitted: .*not YAML"
    ):
        element.still_wanted(*submission.read_plan(plan, 0))


def test_a_study_that_was_not_edited_is_not_even_parsed(tmp_path, monkeypatch):
    plan = a_plan(tmp_path)
    monkeypatch.setattr(element, "load", None)
    assert len(element.still_wanted(*submission.read_plan(plan, 0))) == 3


STARVED = "slurmstepd: error: Detected 1 oom-kill event(s) in StepId=12.0."


@pytest.mark.parametrize(
    ("code", "said", "status"),
    [(137, STARVED, "oom"), (1, STARVED, "oom"), (139, "", "failed"), (1, "", "failed")],
)
def test_a_step_that_died_costs_the_cell_that_it_was_at(tmp_path, monkeypatch, code, said, status):
    plan = a_plan(tmp_path)
    say(plan, monkeypatch, f"{STARVED}\n3 cells to run, 0 done; 1 at a time\n{said}")
    study = load(tmp_path)
    (tmp_path / "work").mkdir(exist_ok=True)
    older, newer = (entry.log_file(tmp_path, study.runs[i].id) for i in (0, 1))
    newer.write_text("working\n")
    older.write_text("")
    os.utime(older, (1, 1))
    assert element.settle(plan, 0, code) == RERUN
    (row,) = rows(tmp_path)
    assert (row.id, row.status, row.log_tail) == (study.runs[1].id, status, "working")
    assert row.reason.startswith("the job step ended badly: the process")


def say(plan: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "12")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "0")
    (plan.parent / "12_0.log").write_text(text)


def test_a_step_that_somebody_killed_goes_on_later(tmp_path, monkeypatch):
    plan = a_plan(tmp_path)
    (tmp_path / "work").mkdir(exist_ok=True)
    entry.log_file(tmp_path, load(tmp_path).runs[0].id).touch()
    say(plan, monkeypatch, f"{STARVED}\n3 cells to run, 0 done; 1 at a time\n")
    assert element.settle(plan, 0, 137) == entry.REQUEUE
    assert not rows(tmp_path)


def test_a_step_that_began_no_cell_costs_none(tmp_path):
    assert element.settle(a_plan(tmp_path), 0, 1) == 1
    assert not rows(tmp_path)


@pytest.mark.parametrize("code", [entry.BUSY, entry.UNWRITTEN])
def test_a_cell_that_is_elsewhere_or_unwritten_is_not_buried(tmp_path, code):
    plan = a_plan(tmp_path)
    (tmp_path / "work").mkdir(exist_ok=True)
    entry.log_file(tmp_path, load(tmp_path).runs[0].id).touch()
    assert element.settle(plan, 0, code) == code
    assert not rows(tmp_path)


def test_the_last_cell_ends_the_element(tmp_path):
    plan = a_plan(tmp_path)
    study = load(tmp_path)
    for run in study.runs[:2]:
        finish(tmp_path, run)
    entry.log_file(tmp_path, study.runs[2].id).write_text("")
    assert element.settle(plan, 0, 139) == 0
    assert len(rows(tmp_path)) == 3
    assert element.settle(plan, 0, 139) == 0


def test_the_ranks_of_two_nodes_meet_at_one_place(tmp_path, monkeypatch):
    run = load_one(tmp_path)
    monkeypatch.setenv("MASTER_ADDR", "10.0.0.1")
    first, second = (meeting.Node(i, 2, tmp_path / "address") for i in range(2))
    places = [*first.places(run), *second.places(run)]
    assert [place.rank for place in places] == [0, 1, 2, 3]
    assert [place.local_rank for place in places] == [0, 1, 0, 1]
    assert {place.world_size for place in places} == {4}
    assert len({(place.address, place.port) for place in places}) == 1
    assert places[0].address == "10.0.0.1"
    assert places[0].port > 0


def load_one(folder: Path) -> Run:
    text = STUDY.replace("width: 16", "width: 16, resources: {nodes: 2, devices: 2}")
    (folder / "study.yaml").write_text(text)
    return load(folder).runs[0]


def test_a_first_node_that_never_comes_is_not_waited_for_forever(tmp_path, monkeypatch):
    monkeypatch.setattr(meeting, "PATIENCE_S", 0.1)
    with pytest.raises(meeting.NobodyCameError):
        meeting.Node(1, 2, tmp_path / "address").places(load_one(tmp_path))


def test_slurm_says_which_node_this_is(tmp_path, monkeypatch):
    assert meeting.this_node(tmp_path) is None
    given = {
        "SLURM_STEP_NUM_NODES": "2",
        "SLURM_NODEID": "1",
        "SLURM_ARRAY_JOB_ID": "12",
        "SLURM_ARRAY_TASK_ID": "3",
        "SLURM_STEP_ID": "0",
    }
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    node = meeting.this_node(tmp_path)
    assert node == meeting.Node(1, 2, tmp_path / "12_3_0_0.address")
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    restarted = meeting.this_node(tmp_path)
    assert restarted is not None
    assert restarted.address_file != node.address_file


class Orphaned:
    """A pool whose cell some other process is at, which ends it before the third look."""

    def __init__(self, store: Store) -> None:
        self.store, self.places = store, local_places
        self.stopped: list[Run] = []
        self.unwritten: dict[str, str] = {}
        self.looks = 0

    def each(self, runs: list[Run], n_workers: int, target: object) -> None:
        self.looks += 1
        if self.looks == 3:
            for run in runs:
                finish(self.store.folder, run)


@pytest.mark.parametrize(("restarts", "looks"), [("0", 1), ("1", 3)])
def test_a_job_started_again_waits_for_what_is_left_of_its_former_self(
    tmp_path, monkeypatch, restarts, looks
):
    a_plan(tmp_path)
    monkeypatch.setattr(element, "ORPHANS_S", 0.01)
    monkeypatch.setenv("SLURM_RESTART_COUNT", restarts)
    pool = Orphaned(Store(tmp_path))
    element._do(pool, list(load(tmp_path).runs), Progress(3, 0, 1))
    assert pool.looks == looks


GLOO = "RuntimeError: [gloo/transport/tcp/pair.cc:537] Read error: Connection reset by peer."


@pytest.mark.parametrize(
    ("reason", "lost"),
    [
        (GLOO, True),
        ("DistBackendError: NCCL error in: ProcessGroupNCCL.cpp, remote process exited", True),
        ("DistNetworkError: Connection was likely closed. Did the remote server shutdown?", True),
        ("RuntimeError: mat1 and mat2 shapes cannot be multiplied (8x3 and 4x2)", False),
        ("ValueError: no task 'x'", False),
    ],
)
def test_a_rank_that_failed_for_another_is_told_from_one_that_failed_by_itself(reason, lost):
    assert lost_peer(reason) == lost


def test_a_run_that_lost_a_node_is_stopped_and_not_failed(tmp_path):
    run = load_one(tmp_path)
    pool = Pool(Store(tmp_path), "s", {}, Progress(1, 0, 1))
    pool._bury(run, entry.PEER_LOST, pool.leave_row)
    assert pool.stopped == [run]
    assert not rows(tmp_path)
