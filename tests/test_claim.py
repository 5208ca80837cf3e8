"""Who is at a run: one process at most, whatever the file system can do, and none that is dead."""

import errno
import fcntl
import json
import os
import platform
import signal
import subprocess
import sys
import threading
import time
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from bench.launch import claim, entry
from bench.launch.claim import Claim
from bench.launch.status import overview
from bench.records.store import Store
from bench.spec import parse_run
from bench.study import load

RUN = "0123456789abcdef"
PATIENCE_S = 120.0


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claim, "_held", {})
    monkeypatch.setattr(claim, "BEAT_S", 0.05)
    monkeypatch.setattr(claim, "WATCH_S", 0.4)
    monkeypatch.setattr(claim, "SETTLE_S", 0.3)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    folder = tmp_path / "a $(study) with\n'hostile' names" / "work"
    folder.mkdir(parents=True)
    return folder / f"{RUN}.log"


@pytest.fixture
def no_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    def flock(descriptor: int, how: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", flock)


def opened(log: Path) -> int:
    return os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)


def taken(log: Path) -> bool:
    """Whether somebody who comes now gets the run, by a descriptor that stays open."""
    return claim.take(opened(log), log)


def leave(log: Path, age_s: float = 0.0, **changes: object) -> Claim:
    """The claim of a process that is no more, or of another host."""
    given = {"host": platform.node(), "pid": 2**22 + 1, "slurm_job_id": None, "restart": 0}
    left = Claim(**{**given, "started_at_unix_s": 1e9, **changes})
    log.touch()
    claim.claim_file(log).write_text(json.dumps(asdict(left)))
    then = time.time() - age_s
    os.utime(claim.claim_file(log), (then, then))
    return left


def wait_for(condition) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_run_is_taken_once_and_names_who_has_it(log, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "97")
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "90")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "7")
    monkeypatch.setenv("SLURM_RESTART_COUNT", "2")
    assert taken(log)
    assert not taken(log)
    ((run_id, found),) = claim.standing(log.parent)
    assert run_id == RUN
    assert found.alive
    assert found.claim == replace(
        found.claim, host=platform.node(), pid=os.getpid(), slurm_job_id="90_7", restart=2
    )
    assert abs(found.claim.started_at_unix_s - time.time()) < PATIENCE_S


def test_a_claim_goes_with_its_owner_alone(log):
    assert taken(log)
    claim.release(log, pid=os.getpid() + 1)
    assert claim.look(log) is not None
    claim.release(log)
    assert claim.look(log) is None
    assert list(claim.standing(log.parent)) == []


def test_a_launcher_takes_away_what_its_dead_worker_left(log):
    left = leave(log)
    claim.release(log, pid=left.pid + 1)
    claim.release(log.with_name("f" * 16 + ".log"), pid=left.pid)
    assert claim.look(log) is not None
    claim.release(log, pid=left.pid)
    assert claim.look(log) is None


def test_the_claim_of_a_dead_process_is_dead_at_once_and_the_run_free(log):
    leave(log)
    assert not claim.look(log).alive
    assert taken(log)
    assert claim.look(log).claim.pid == os.getpid()


def test_looking_takes_no_run_from_those_who_come(log):
    """`look` locks a log for a moment: a worker that comes in that moment still gets its run."""
    holder = opened(log)
    fcntl.flock(holder, fcntl.LOCK_SH)
    timer = threading.Timer(0.1, lambda: fcntl.flock(holder, fcntl.LOCK_UN))
    timer.start()
    assert taken(log)
    timer.join()


def test_looking_leaves_no_lock(log):
    leave(log)
    claim.look(log)
    fcntl.flock(opened(log), fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_the_claim_of_another_host_counts_as_long_as_it_is_touched(log):
    """The file system may lock on each host alone."""
    leave(log, host="elsewhere")
    assert claim.look(log).alive
    leave(log, host="elsewhere", age_s=claim.DEAD_S + 1)
    assert not claim.look(log).alive


@pytest.mark.parametrize("beats", [True, False])
def test_a_run_of_another_host_is_taken_if_that_one_touches_it_no_more(log, beats):
    leave(log, host="elsewhere")
    ended = threading.Event()

    def touch() -> None:
        while beats and not ended.wait(0.02):
            os.utime(claim.claim_file(log))

    thread = threading.Thread(target=touch)
    thread.start()
    try:
        assert taken(log) is not beats
    finally:
        ended.set()
        thread.join()
    if beats:  # and is no longer locked by the one that was refused
        fcntl.flock(opened(log), fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_a_claim_is_touched_as_long_as_its_process_lives(log):
    assert taken(log)
    path = claim.claim_file(log)
    os.utime(path, (1e9, 1e9))
    wait_for(lambda: path.stat().st_mtime > 1e9)
    claim.release(log)
    time.sleep(3 * claim.BEAT_S)
    assert not path.exists()


def test_one_thread_touches_all_claims_of_a_process(log):
    before = threading.active_count()
    logs = [log.with_name(f"{digit * 16}.log") for digit in "abc"]
    assert all(taken(one) for one in logs)
    assert threading.active_count() == before + 1
    for one in logs:
        os.utime(claim.claim_file(one), (1e9, 1e9))
    wait_for(lambda: all(claim.claim_file(one).stat().st_mtime > 1e9 for one in logs))
    for one in logs:
        claim.release(one)
    wait_for(lambda: threading.active_count() == before)


def test_a_disk_that_is_full_keeps_nobody_from_a_run_that_is_locked(log, monkeypatch):
    def fail(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    assert taken(log)
    assert not taken(log)


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EIO])
def test_without_locks_the_file_is_the_guard(log, monkeypatch, code):
    def flock(descriptor: int, how: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", flock)
    assert taken(log)
    assert not taken(log)
    assert claim.look(log).alive
    claim.release(log)
    assert taken(log)


@pytest.mark.usefixtures("no_locks")
def test_without_locks_a_claim_is_alive_by_its_age(log):
    leave(log, age_s=claim.DEAD_S / 2)
    assert claim.look(log).alive
    assert not taken(log)
    leave(log, age_s=claim.DEAD_S + 1)
    assert not claim.look(log).alive
    assert taken(log)
    assert claim.look(log).claim.pid == os.getpid()


@pytest.mark.usefixtures("no_locks")
def test_without_locks_one_of_many_takes_a_dead_claim_over(log, monkeypatch):
    leave(log, age_s=claim.DEAD_S + 1)
    numbers = iter(range(1000, 2000))
    monkeypatch.setattr(claim, "_own", lambda: Claim("a host", next(numbers), None, 0, 1e9))
    answers: list[bool] = []
    threads = [threading.Thread(target=lambda: answers.append(taken(log))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers) == [False] * 7 + [True]


@pytest.mark.usefixtures("no_locks")
def test_without_locks_a_process_whose_run_was_taken_over_ends(log, monkeypatch):
    codes: list[int] = []
    monkeypatch.setattr(os, "_exit", codes.append)
    assert taken(log)
    leave(log, host="elsewhere")
    wait_for(lambda: claim.BUSY in codes)
    claim.release(log)


def test_with_locks_a_process_goes_on_whatever_the_file_says(log, monkeypatch):
    codes: list[int] = []
    monkeypatch.setattr(os, "_exit", codes.append)
    assert taken(log)
    leave(log, host="elsewhere")
    time.sleep(4 * claim.BEAT_S)
    assert codes == []


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b'{"host": "a"',
        b"[]",
        b"null",
        b'"text"',
        b"\xff\xfe",
        b'{"host": 1, "pid": 2, "slurm_job_id": null, "restart": 0, "started_at_unix_s": 0}',
        b'{"host": "a", "pid": "2", "slurm_job_id": null, "restart": 0, "started_at_unix_s": 0}',
        b'{"host":"a","pid":2,"slurm_job_id":null,"restart":0,"started_at_unix_s":0,"x":1}',
    ],
)
def test_a_claim_that_cannot_be_read_is_of_nobody_and_in_nobodys_way(log, content):
    leave(log)
    claim.claim_file(log).write_bytes(content)
    assert claim.look(log).claim is None
    claim.release(log)
    assert claim.claim_file(log).read_bytes() == content
    assert taken(log)
    assert claim.look(log).claim.pid == os.getpid()


def test_other_files_in_the_folder_are_no_claims(log):
    for name in ("notes.claim", "0123456789ABCDEF.claim", ".partial-x.claim", f"{RUN}.claimed"):
        (log.parent / name).write_text("{}")
    (log.parent / f"{'a' * 16}.claim").mkdir()
    assert [run_id for run_id, _ in claim.standing(log.parent)] == ["a" * 16]
    assert list(claim.standing(log.parent / "none")) == []


def test_a_folder_that_cannot_be_listed_is_an_error_of_the_system(tmp_path):
    (tmp_path / "work").write_text("a file where the folder should be")
    with pytest.raises(OSError, match="Not a directory"):
        list(claim.standing(tmp_path / "work"))


STUDY = """
title: t
base: {width: 8, resources: {threads: 1}}
grid:
  architecture: [gru]
  task: [parity]
  length: [8]
  training: [{steps: STEPS, batch_size: 4}]
measure: {instruments: [throughput, memory], seconds_per_cell: 0.05, min_rounds: 3, length: [8, 12]}
"""


def start(folder: Path, steps: int) -> subprocess.Popen[str]:
    folder.mkdir(exist_ok=True)
    (folder / "study.yaml").write_text(STUDY.replace("STEPS", str(steps)))
    words = [sys.executable, "-m", "bench", "sweep", str(folder)]
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def states(folder: Path) -> dict[str, int]:
    return overview(load(folder), Store(folder)).counts()


def test_a_sweep_leaves_no_claim(tmp_path):
    """Not the training, nor the instrument that measures alone, nor the session of two cells."""
    process = start(tmp_path, steps=3)
    output, _ = process.communicate(timeout=240)
    assert process.returncode == 0, output
    assert set(Store(tmp_path).statuses().values()) == {"ok"}
    assert len(Store(tmp_path).ids()) == 3
    assert list(claim.standing(tmp_path / "work")) == []
    assert states(tmp_path) == {"done": 3}


@pytest.mark.slow
def test_the_cells_of_a_killed_sweep_are_lost_and_run_again(tmp_path):
    process = start(tmp_path, steps=10**9)
    wait_for(lambda: states(tmp_path).get("running"))
    assert states(tmp_path) == {"running": 1, "pending": 2}
    os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=240)
    wait_for(lambda: states(tmp_path).get("lost"))
    assert states(tmp_path) == {"lost": 1, "pending": 2}
    ((_, left),) = claim.standing(tmp_path / "work")
    again = start(tmp_path, steps=10**9)
    wait_for(lambda: [one.claim for _, one in claim.standing(tmp_path / "work")] != [left.claim])
    assert states(tmp_path) == {"running": 1, "pending": 2}
    again.send_signal(signal.SIGINT)
    output, _ = again.communicate(timeout=240)
    assert again.returncode == 130, output
    assert states(tmp_path) == {"pending": 3}  # nobody lost it: its launcher ended it


def test_a_program_that_a_worker_started_does_not_hold_its_run(tmp_path, monkeypatch):
    monkeypatch.setattr(entry, "die_with_parent", lambda: None)
    (tmp_path / "work").mkdir()
    run = parse_run({"architecture": "rnn", "task": "parity", "length": 8})
    job = entry.Job(runs=(run.model_dump_json(),), study="s", folder=tmp_path, provenance={})
    child = os.fork()
    if child == 0:
        entry._begin(job)
        os.write(1, str(subprocess.Popen(["sleep", "30"]).pid).encode())
        os._exit(0)
    os.waitpid(child, 0)
    log = entry.log_file(tmp_path, run.id)
    try:
        descriptor = os.open(log, os.O_RDONLY)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.close(descriptor)
    finally:
        os.kill(int(log.read_text()), signal.SIGKILL)
