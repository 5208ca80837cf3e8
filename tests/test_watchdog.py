"""Workers that hang, starve or cannot write: each is told apart, and costs its own cell alone."""

import errno
import os
import signal
import subprocess
import sys

import pytest

from bench.errors import UserError
from bench.launch import autopsy, sweep
from bench.records import files
from bench.records.store import Store
from bench.training import watchdog
from tests.packages import install
from tests.small_run import row_of
from tests.test_launch import Silent, a_run, processes_in, run_cells

STUCK = '''
"""Bodies that stop in the middle, or at the end."""

import errno
import os
import time

from architectures.gru import Gru


class Stuck(Gru):
    """Never comes back from its third step."""

    calls = 0

    def forward(self, x, state=None, *, lengths=None):
        if self.training:
            self.calls += 1
            if self.calls > 2:
                self.wait_for_ever()
        return super().forward(x, state, lengths=lengths)

    def wait_for_ever(self):
        time.sleep(600)


class FullDisk(Gru):
    """Leaves no place for its row."""

    def forward(self, x, state=None, *, lengths=None):
        os.fsync = self.refuse
        return super().forward(x, state, lengths=lengths)

    def refuse(self, descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


class StuckRank(Stuck):
    """Does so on the second rank alone."""

    def wait_for_ever(self):
        if os.environ.get("RANK") == "1":
            time.sleep(600)
'''


@pytest.fixture
def stuck(tmp_path, monkeypatch):
    from bench import plugins

    site = tmp_path / "site"
    site.mkdir()
    names = {"stuck": "Stuck", "stuck_rank": "StuckRank", "full_disk": "FullDisk"}
    points = {name: f"stuck:{made}" for name, made in names.items()}
    install(site, "stuck", {"stuck.py": STUCK}, {"seqbench.architectures": points})
    monkeypatch.syspath_prepend(str(site))
    plugins.outside.cache_clear()
    yield
    plugins.outside.cache_clear()


def test_a_run_that_hangs_ends_with_its_stacks_in_its_row(tmp_path, stuck):
    run = a_run(architecture="stuck", resources={"hang_s": 3.0})
    rows = run_cells(Store(tmp_path / "study"), [run, a_run()])
    row = rows[run.id]
    assert row.status == "failed"
    assert row.reason == "nothing happened for 3 s (resources.hang_s): see the log"
    assert row.log_tail.startswith("Timeout (0:00:03)!")
    assert "wait_for_ever" in row.log_tail
    assert rows[a_run().id].status == "ok"
    assert processes_in(tmp_path / "study") == []


@pytest.mark.parametrize("beats", [True, False])
def test_what_is_only_long_does_not_hang(beats):
    """A second and a half without a sign of life is too long, three seconds with signs are not."""
    code = (
        "import time\nfrom bench.training import watchdog\nwatchdog.arm(1.5)\n"
        f"for _ in range(60):\n    time.sleep(0.05)\n    {beats} and watchdog.beat()\n"
        "watchdog.disarm()\nprint('done')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == ((0, "done\n") if beats else (1, ""))
    assert bool(autopsy.HANGING.search(done.stderr)) == (not beats)


def test_every_step_and_every_batch_that_is_read_is_a_sign_of_life(monkeypatch):
    beats = []
    monkeypatch.setattr(watchdog, "beat", lambda: beats.append(1))
    task = {"name": "parity", "n_val": 80, "n_test": 160}
    assert row_of(a_run(task=task, training={"val_every": 6})).status == "ok"
    assert len(beats) >= 6 + 80 / 8 + 160 / 8


@pytest.mark.slow
def test_the_row_says_what_the_rank_that_hangs_was_at(tmp_path, stuck):
    run = a_run(architecture="stuck_rank", resources={"hang_s": 5.0, "devices": 2})
    row = run_cells(Store(tmp_path / "study"), [run])[run.id]
    assert row.status == "failed"
    assert "resources.hang_s" in row.reason
    assert "rank 1:\nTimeout (0:00:05)!" in row.log_tail
    assert "wait_for_ever" in row.log_tail
    assert processes_in(tmp_path / "study") == []


def test_a_worker_that_the_kernel_killed_for_memory_is_oom(tmp_path, monkeypatch):
    """One kill is counted, two workers were killed: the other one was killed by somebody."""
    counted = [7]
    monkeypatch.setattr("bench.launch.pool.oom_kills", lambda: counted[0])
    watcher = Silent()

    def kill() -> None:
        if len(pids := processes_in(tmp_path)) == 2:
            watcher.on_tick = lambda: None
            counted[0] += 1
            for pid in pids:
                os.kill(pid, signal.SIGKILL)

    watcher.on_tick = kill
    runs = [a_run(training={"steps": 10**6}, seed=seed) for seed in (0, 1)]
    rows = run_cells(Store(tmp_path), runs, watcher=watcher)
    assert sorted(rows[run.id].status for run in runs) == ["failed", "oom"]
    assert any("control group" in rows[run.id].reason for run in runs)


@pytest.mark.parametrize(
    ("line", "counter", "content"),
    [
        ("0::/job_1/step_0", "memory.events", "low 0\noom 5\noom_kill 3\noom_group_kill 1\n"),
        ("4:cpu,memory:/job_1/step_0", "memory.oom_control", "under_oom 0\noom_kill 3\n"),
    ],
)
def test_kills_are_counted_in_both_kinds_of_control_groups(monkeypatch, line, counter, content):
    root = "/sys/fs/cgroup" if counter == "memory.events" else "/sys/fs/cgroup/memory"
    texts = {"/proc/self/cgroup": f"{line}\n", f"{root}/job_1/step_0/{counter}": content}
    monkeypatch.setattr(autopsy, "_text", lambda path: texts.get(str(path), ""))
    assert autopsy.oom_kills() == 3


def test_no_control_group_counts_nothing(monkeypatch):
    monkeypatch.setattr(autopsy, "_text", lambda path: "")
    assert autopsy.oom_kills() == 0


def test_a_row_that_cannot_be_written_is_named_and_the_others_are_there(tmp_path, stuck):
    full, fine, store = a_run(architecture="full_disk"), a_run(), Store(tmp_path / "study")
    watcher = Silent()
    message = rf"cannot write .*{full.id}.*No space left on device; 1 cell without a row"
    with pytest.raises(UserError, match=message):
        run_cells(store, [full, fine], watcher=watcher)
    assert watcher.ended == {full.id: "unwritten", fine.id: "ok"}
    assert store.ids() == {fine.id}


def test_a_launcher_that_cannot_write_a_row_goes_on(tmp_path, monkeypatch):
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    watcher = Silent()
    sweep.make_writable(tmp_path)
    monkeypatch.setattr(files.os, "fsync", full)  # here, and not in the workers
    slow = a_run(training={"steps": 10**6}, resources={"timeout_s": 1.0})
    with pytest.raises(UserError, match="No space left on device; 1 cell without a row"):
        run_cells(Store(tmp_path), [slow, a_run()], watcher=watcher)
    assert watcher.ended == {slow.id: "unwritten", a_run().id: "ok"}


@pytest.mark.parametrize("n_stale", [1, 3])
def test_a_stale_handle_is_tried_again(tmp_path, monkeypatch, n_stale):
    monkeypatch.setattr(files, "STALE_WAITS_S", (0.0, 0.0, 0.0))
    left = [n_stale]
    original = os.fsync

    def stale(descriptor: int) -> None:
        if left[0]:
            left[0] -= 1
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        original(descriptor)

    monkeypatch.setattr(files.os, "fsync", stale)
    files.write_atomically(tmp_path / "row", b"x")
    assert (tmp_path / "row").read_bytes() == b"x"
    assert [path.name for path in tmp_path.iterdir()] == ["row"]


def test_a_handle_that_stays_stale_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "STALE_WAITS_S", (0.0,))
    calls = []

    def stale() -> None:
        calls.append(1)
        raise OSError(errno.ESTALE, "Stale file handle")

    with pytest.raises(OSError, match="Stale"):
        files.patiently(stale)
    assert len(calls) == 2


def test_other_errors_are_not_tried_again():
    calls = []

    def missing() -> None:
        calls.append(1)
        raise FileNotFoundError

    with pytest.raises(FileNotFoundError):
        files.patiently(missing)
    assert len(calls) == 1


def test_the_newest_calls_of_a_dump_are_kept_however_long_it_is(tmp_path):
    log = tmp_path / "a.log"
    frames = "\n".join(f'  File "x.py", line {i} in f{i}' for i in range(500))
    log.write_text(f"before\nTimeout (0:30:00)!\nThread 0x1 (most recent call first):\n{frames}\n")
    words = autopsy.last_words([log])
    assert words.startswith("Timeout")
    assert len(words.splitlines()) == autopsy.DUMP_LINES
    assert autopsy.hung([log])
    assert not autopsy.hung([tmp_path / "none.log"])
