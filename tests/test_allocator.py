"""Freed memory is kept where cells are trained or timed, and nowhere else."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from architectures.kernels.native.build import find_compiler
from bench.errors import UserError
from bench.launch import entry, sweep
from bench.records.store import Store
from bench.training import allocator
from tests.test_launch import Silent

# A malloc of its own, which takes its memory from glibc's.
MALLOC = "void *__libc_malloc(unsigned long n); void *malloc(unsigned long n) "
MALLOC += "{ return __libc_malloc(n); }"
MIB = 1 << 20
# Whether a block of 48 MiB goes back to the system when it is freed; twice, as the first of a size
# may raise glibc's own threshold.
KEEPS = """
import ctypes, sys
from pathlib import Path
from bench.training.allocator import keep_freed_memory
def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096
def left_behind():
    before = resident()
    block = bytearray(48 << 20)
    del block
    return resident() - before
print(keep_freed_memory())
print(left_behind() > 40 << 20)
"""

FORKED_FROM = KEEPS.replace(
    "print(keep_freed_memory())",
    "import importlib\nfrom bench.launch.entry import PRELOAD\n"
    "for name in PRELOAD: importlib.import_module(name)",
)
assert FORKED_FROM != KEEPS

glibc = pytest.mark.skipif(
    not hasattr(allocator.ctypes.CDLL(None), "gnu_get_libc_version"), reason="not glibc"
)


def run(code: str, **environment: str) -> list[str]:
    clean = {k: v for k, v in os.environ.items() if k not in allocator.SET_BY_USER}
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={**clean, **environment},
    )
    return done.stdout.splitlines()


@glibc
def test_freed_memory_is_kept_and_the_system_gets_it_where_that_is_asked_for() -> None:
    assert run(KEEPS) == [allocator.KEPT, "True"]
    assert run(KEEPS, SEQBENCH_ALLOCATOR="system") == ["glibc, as it is", "False"]


@glibc
def test_who_set_glibcs_own_variables_knows_better() -> None:
    said, keeps = run(KEEPS, MALLOC_TRIM_THRESHOLD_="131072")
    assert said == "glibc, as MALLOC_TRIM_THRESHOLD_ has it"
    assert keeps == "False"


@glibc
def test_another_allocator_is_named_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "other.c").write_text(MALLOC)
    library = tmp_path / "libothermalloc.so.2"
    command = [*find_compiler(), "-shared", "-fPIC", str(tmp_path / "other.c"), "-o", str(library)]
    subprocess.run(command, check=True)
    said, _ = run(KEEPS, LD_PRELOAD=str(library))
    assert said == "libothermalloc.so.2, as it is"


def test_a_wrong_choice_names_the_nearest(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SEQBENCH_ALLOCATOR", "sytem")
    message = "no SEQBENCH_ALLOCATOR 'sytem'; did you mean 'system'"
    with pytest.raises(UserError, match=message):
        allocator.keep_freed_memory()
    with pytest.raises(UserError, match=message):  # and before any cell starts
        sweep.sweep("t", Store(tmp_path), sweep.Plan((), (), 0), 1, Silent())
    assert not (tmp_path / "rows").exists()


@glibc
def test_the_process_from_which_workers_are_forked_gives_memory_back() -> None:
    """Or every worker would inherit its setting, that of a memory cell too."""
    assert run(FORKED_FROM) == ["False"]


STUDY = """
title: t
base:
  width: 64
  task: parity
  length: 512
  training: {steps: 2, batch_size: 16}
grid:
  architecture: [gru]
measure:
  instruments: [throughput, memory]
  seconds_per_cell: 0.01
  min_rounds: 3
"""
# Pages and libraries of first use differ between two processes by a MiB or so.
PEAK_TOLERANCE = 3 * MIB


@glibc
def test_a_sweeps_rows_name_it_and_its_memory_is_measured_without(tmp_path: Path) -> None:
    """The worker that measures memory is forked after others have trained."""
    peaks, said = {}, {}
    for choice in ("auto", "system"):
        folder = tmp_path / choice
        folder.mkdir()
        (folder / "study.yaml").write_text(STUDY)
        command = [sys.executable, "-m", "bench", "sweep", str(folder), "--workers", "1"]
        environment = {**os.environ, "SEQBENCH_ALLOCATOR": choice}
        subprocess.run(command, check=True, capture_output=True, env=environment)
        rows = list(Store(folder).rows())
        assert {row.status for row in rows} == {"ok"}, [row.log_tail for row in rows]
        said[choice] = {row.provenance["allocator"] for row in rows}
        (peaks[choice],) = [
            row.metrics["peak_bytes"] for row in rows if "peak_bytes" in row.metrics
        ]
    assert said["system"] == {"glibc, as it is"}
    assert said["auto"] == {allocator.KEPT}
    assert abs(peaks["auto"] - peaks["system"]) <= PEAK_TOLERANCE


def test_the_process_that_measures_memory_does_not_touch_the_allocator(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from bench.measure import memory
    from tests.small_run import a_run

    monkeypatch.setattr(allocator, "keep_freed_memory", lambda: pytest.fail("it did"))
    monkeypatch.setattr(memory, "_counted", lambda _: {"peak_bytes": 7})
    measured: Any = a_run(training={"steps": 0}, measure={"instruments": ["memory"]})
    monkeypatch.setattr(entry, "_begin", lambda _: measured)
    job = entry.Job(runs=(), study="t", folder=tmp_path, provenance={})
    entry.measure_alone(job, "memory", tmp_path / "result")
    assert '"peak_bytes": 7' in (tmp_path / "result").read_text()
