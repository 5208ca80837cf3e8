"""How native code comes to be: compilers that are missing, fail or hang, caches, many processes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from architectures.kernels import linear_scan as linear
from architectures.kernels.native import build as building
from architectures.kernels.native import library
from architectures.kernels.native.build import BuildError, build
from architectures.kernels.paths import recorded

ROOT = Path(__file__).resolve().parents[1]
PROCESSES = 64
# build.py alone, as a file: 64 processes that import torch would take minutes.
BUILD_ALONE = """
import importlib.util, sys
spec = importlib.util.spec_from_file_location("building", sys.argv[1])
building = importlib.util.module_from_spec(spec)
spec.loader.exec_module(building)
print(building.build("linear_scan"))
"""
KERNEL = linear.native.KERNEL


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, the machine's compiler, and a kernel that nobody has used yet."""
    monkeypatch.setenv("SEQBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("SEQBENCH_KERNELS", "auto")
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr(building.tempfile, "tempdir", str(tmp_path))
    for name, value in {"_tried": False, "_code": None, "reason": None}.items():
        monkeypatch.setattr(KERNEL, name, value)
    return tmp_path / "cache"


def compiler(folder: Path, script: str) -> str:
    """A program in the place of a compiler."""
    path = folder / "fake_cc"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


def scanned(dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return linear.linear_scan(
        torch.full((1, 3, 2), 0.5, dtype=dtype), torch.ones(1, 3, 2).to(dtype)
    )


def path(dtype: torch.dtype = torch.float32) -> str:
    """What the scan runs on."""
    with recorded() as paths:
        scanned(dtype)
    return paths["linear_scan"]


def is_right(states: torch.Tensor) -> bool:
    return torch.equal(states[0, :, 0], torch.tensor([1.0, 1.5, 1.75]))


def test_it_is_compiled_once_and_found_again(cache: Path) -> None:
    path = build("linear_scan")
    written = path.stat().st_mtime_ns
    assert path.parent == cache / "kernels"
    assert build("linear_scan") == path
    assert path.stat().st_mtime_ns == written
    assert not list(path.parent.glob("*.tmp"))


def test_the_name_changes_with_source_compiler_and_processor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = {build("linear_scan").name}
    monkeypatch.setenv("CC", compiler(tmp_path, 'exec cc "$@"'))
    names.add(build("linear_scan").name)
    monkeypatch.setattr(building, "processor", lambda: "another")
    names.add(build("linear_scan").name)
    for source in building.SOURCES.glob("*.[ch]"):
        (tmp_path / source.name).write_text(f"{source.read_text()}\n")
    monkeypatch.setattr(building, "SOURCES", tmp_path)
    names.add(build("linear_scan").name)
    assert len(names) == 4


@pytest.mark.slow
def test_many_processes_at_once_compile_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "log"
    script = f'case "$*" in *-shared*) echo compiled >> {log};; esac\nexec cc "$@"'
    monkeypatch.setenv("CC", compiler(tmp_path, script))
    command = [sys.executable, "-c", BUILD_ALONE, building.__file__]
    processes = [
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(PROCESSES)
    ]
    said = [process.communicate()[0] for process in processes]
    assert {process.returncode for process in processes} == {0}
    assert len(set(said)) == 1
    assert log.read_text().split() == ["compiled"]


def test_a_cache_that_cannot_be_written_is_gone_round(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("SEQBENCH_CACHE", str(tmp_path / "file" / "below"))
    assert build("linear_scan").parent == tmp_path / f"seqbench-{os.getuid()}"
    assert is_right(scanned())
    assert path() == "native-cpu"
    monkeypatch.setattr(building.tempfile, "tempdir", str(tmp_path / "file"))
    with pytest.raises(BuildError, match="no folder"):
        build("linear_scan")


def test_another_users_library_is_not_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    build("linear_scan")
    monkeypatch.setattr(building.os, "getuid", lambda: 12345)
    with pytest.raises(BuildError, match="no folder"):
        build("linear_scan")


WRONG_COMPILERS = {
    "it fails": ('case "$*" in *version*) ;; *) echo no memory; exit 4;; esac', "said: no memory"),
    "it writes nothing": ("exit 0", "wrote nothing"),
    "it writes nonsense": (
        'while [ $# -gt 1 ]; do [ "$1" = -o ] && echo nonsense > "$2"; shift; done',
        "OSError",
    ),
    "it hangs": ("sleep 60", "did not end within"),
}


@pytest.mark.parametrize("wrong", WRONG_COMPILERS)
def test_a_compiler_that_does_not_work_leaves_the_reference(
    wrong: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    script, said = WRONG_COMPILERS[wrong]
    monkeypatch.setattr(building, "TIMEOUT_S", 2.0)
    monkeypatch.setenv("CC", compiler(tmp_path, script))
    assert is_right(scanned())
    assert is_right(scanned())
    assert path() == "reference"
    assert said in library.reasons()["linear_scan"]
    assert len(caplog.records) == 1
    assert said in caplog.text
    monkeypatch.setenv("SEQBENCH_KERNELS", "native")
    with pytest.raises(RuntimeError, match="SEQBENCH_KERNELS=native, but linear_scan has none"):
        scanned()


def test_no_compiler_leaves_the_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert is_right(scanned())
    assert "there is no C compiler" in library.reasons()["linear_scan"]


def test_a_compiler_that_is_named_and_missing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", "nocc")
    with pytest.raises(BuildError, match="no compiler 'nocc'"):
        build("linear_scan")


def test_a_compiler_without_openmp_is_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = 'case "$*" in *-fopenmp*) exit 1;; esac\nexec cc "$@"'
    monkeypatch.setenv("CC", compiler(tmp_path, script))
    assert is_right(scanned())
    assert path() == "native-cpu"


def test_a_kernel_that_is_wrong_is_switched_off(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for source in building.SOURCES.glob("*.[ch]"):
        text = source.read_text().replace("decayed + load_some(b", "decayed - load_some(b")
        (tmp_path / source.name).write_text(text)
    monkeypatch.setattr(building, "SOURCES", tmp_path)
    assert is_right(scanned())
    assert "its self-check found an error of" in library.reasons()["linear_scan"]


def test_the_variable_chooses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEQBENCH_KERNELS", "reference")
    assert is_right(scanned())
    assert path() == "reference"
    assert not KERNEL._tried
    assert not library.reasons()
    monkeypatch.setenv("SEQBENCH_KERNELS", "native")
    assert is_right(scanned())
    assert path() == "native-cpu"
    assert path(torch.float64) == "reference"
    monkeypatch.setenv("SEQBENCH_KERNELS", "fast")
    with pytest.raises(ValueError, match="'fast'; choices: auto, native, reference"):
        scanned()


@pytest.mark.filterwarnings("ignore:.*inference.*")
def test_the_self_check_does_not_see_the_callers_modes() -> None:
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        assert is_right(scanned())
    assert path() == "native-cpu"


def test_importing_the_architectures_compiles_and_loads_nothing(cache: Path) -> None:
    code = """
import json, sys, torch
known = set(sys.modules)
import architectures
from architectures.kernels.native.library import KERNELS
tried = [name for name, kernel in KERNELS.items() if kernel._tried]
print(json.dumps([tried, "torch._dynamo" in sys.modules, len(KERNELS)]))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=ROOT
    )
    tried, imports_dynamo, n_kernels = json.loads(done.stdout)
    assert not tried
    assert not imports_dynamo
    assert n_kernels >= 2
    assert not cache.exists()
