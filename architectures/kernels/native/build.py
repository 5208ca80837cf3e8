"""From a C file to a shared library in the user's cache.

The compiler is the machine's own ($CC, cc, gcc or clang). A library is named after its source, the
compiler and the processor, so that machines of several kinds may share one home folder. It appears
whole or not at all: compiled under another name and renamed. The first of many processes compiles
and the others wait for it.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import platform
import shlex
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

SOURCES = Path(__file__).parent
COMPILERS = ("cc", "gcc", "clang")
# No -ffast-math: NaN and infinity must come through, and rounding by a large number must stay.
FLAGS = ("-std=gnu11", "-O3", "-fPIC", "-shared", "-fno-math-errno", "-w")
# The first that the compiler takes: clang on ARM has no -march=native, Apple's has no OpenMP.
FLAG_CHOICES = (("-march=native", "-fopenmp"), ("-mcpu=native", "-fopenmp"), ())
TIMEOUT_S = 120.0  # of one compilation; without other load it takes one or two
LOCK_POLL_S = 0.05


class BuildError(RuntimeError):
    """Why there is no library."""


def build(source: str | Path, choices: Sequence[tuple[str, ...]] = FLAG_CHOICES) -> Path:
    """The shared library of a C file, compiled now unless the cache has it.

    Args:
        source: a path, or the name of a file beside this one, without its ending.
        choices: flags; the first that the compiler takes are used.

    Raises:
        BuildError: there is no compiler, it failed, or it took longer than TIMEOUT_S.
    """
    compiler = find_compiler()
    path = SOURCES / f"{source}.c" if isinstance(source, str) else source
    name, key = path.stem, _key(path, compiler, choices)
    for folder in (cache_folder(), Path(tempfile.gettempdir()) / f"seqbench-{os.getuid()}"):
        library = folder / f"{name}-{key}.so"
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            if not _is_ours(folder):
                continue
            if _is_ours(library):
                return library
            with _alone(folder / f"{name}-{key}.lock"):
                if not _is_ours(library):
                    _compile(compiler, path, library, choices)
        except OSError:
            continue  # a cache that cannot be written, or is full
        if _is_ours(library):
            return library
    raise BuildError(f"no folder for compiled code can be written; tried {cache_folder()}")


def find_compiler() -> list[str]:
    """The C compiler and what $CC adds to it."""
    chosen = shlex.split(os.environ.get("CC", ""))
    if chosen:
        if shutil.which(chosen[0]) is None:
            raise BuildError(f"there is no compiler {chosen[0]!r}, which CC names")
        return chosen
    for name in COMPILERS:
        path = shutil.which(name)
        if path is not None:
            return [path]
    raise BuildError(f"there is no C compiler: none of {', '.join(COMPILERS)} is installed")


def cache_folder() -> Path:
    """$SEQBENCH_CACHE, or the user's cache."""
    chosen = os.environ.get("SEQBENCH_CACHE")
    if chosen:
        return Path(chosen).expanduser() / "kernels"
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "seqbench" / "kernels"


def _key(source: Path, compiler: list[str], choices: Sequence[tuple[str, ...]]) -> str:
    """Of everything that makes the code what it is."""
    digest = hashlib.sha256()
    for path in (source, SOURCES / "simd.h"):
        digest.update(path.read_bytes())
    digest.update(_run([*compiler, "--version"]).encode())
    digest.update(repr((compiler, FLAGS, choices, platform.machine())).encode())
    digest.update(processor().encode())
    return digest.hexdigest()[:24]


def processor() -> str:
    """The processor's model and instruction sets, as far as the system tells."""
    told = ("model name", "flags", "Features", "CPU part")
    try:
        lines = Path("/proc/cpuinfo").read_text().split("\n\n")[0].splitlines()
    except OSError:
        return platform.processor()
    return "\n".join(line for line in lines if line.split("\t")[0].strip(" :") in told)


def _is_ours(path: Path) -> bool:
    """Whether it is there and of this user: nobody else's code is loaded from a shared folder."""
    try:
        return path.stat().st_uid == os.getuid()
    except OSError:
        return False


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    """Wait for the process that compiles the same; after TIMEOUT_S go on beside it.

    The system frees the lock of a process that dies.
    """
    deadline = time.monotonic() + TIMEOUT_S
    with lock.open("w") as file:
        while time.monotonic() < deadline:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                time.sleep(LOCK_POLL_S)
            except OSError:
                break  # a file system without locks: twice the work, the same result
        yield


def _compile(
    compiler: list[str], source: Path, library: Path, choices: Sequence[tuple[str, ...]]
) -> None:
    handle, unfinished = tempfile.mkstemp(dir=library.parent, prefix=library.stem, suffix=".tmp")
    os.close(handle)
    try:
        for choice in choices:
            command = [*compiler, *FLAGS, *choice, str(source), "-o", unfinished, "-lm"]
            try:
                _run(command)
                break
            except BuildError:
                if choice == choices[-1]:
                    raise
        if Path(unfinished).stat().st_size == 0:
            raise BuildError(f"{compiler[0]} said that all is well and wrote nothing")
        Path(unfinished).chmod(0o700)
        Path(unfinished).replace(library)
    finally:
        Path(unfinished).unlink(missing_ok=True)


def _run(command: list[str]) -> str:
    """What a compiler prints; it and its children are ended when the time is up."""
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
    except OSError as error:
        raise BuildError(f"{command[0]} cannot be run: {error}") from None
    with process:
        try:
            printed, _ = process.communicate(timeout=TIMEOUT_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            raise BuildError(f"{command[0]} did not end within {TIMEOUT_S:g} s") from None
    if process.returncode != 0:
        said = next((line for line in printed.splitlines() if line.strip()), "nothing")
        raise BuildError(f"{command[0]} ended with {process.returncode} and said: {said[:200]}")
    return printed
