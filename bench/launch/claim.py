"""Who is at a run: the lock on its log, and beside the log a file that says which process that is.

The lock guards against doing a run twice, and the system gives it back however a process ends. The
file, `work/<id>.claim`, says where the run is being done; one without a row whose lock is free is
of a process that nobody saw die: the run is lost.

Some file systems cannot lock: there the file itself is the guard, made by the first and by no
other. Some lock on each host alone: there another host's claim counts as long as it lives. Both is
told by the file's age, since a thread of the process touches it all the time.
"""

from __future__ import annotations

import fcntl
import json
import os
import platform
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from bench.errors import UserError
from bench.records import files
from bench.records.provenance import requeues, slurm_job_id
from bench.spec import is_id

SUFFIX = ".claim"
BUSY = 76
"""Exit code of a process that finds its run being done by another one, or taken over by it."""

BEAT_S = 10.0
DEAD_S = 60.0
"""A claim that was not touched for so long is of a dead process."""
WATCH_S = 2.5 * BEAT_S
SETTLE_S = 1.0
"""How long all who take over one dead claim at once have for it: the last one has the run."""
N_TRIES, TRY_S = 6, 0.05
"""`standing` holds a lock for a moment when it looks whether somebody else does."""


@dataclass(frozen=True)
class Claim:
    """The process that is at a run."""

    host: str
    pid: int
    slurm_job_id: str | None  # 1234, or 1234_5 in a job array
    restart: int  # how many times Slurm has started that job again
    started_at_unix_s: float


@dataclass(frozen=True)
class Standing:
    """A claim as it was found."""

    claim: Claim | None  # None: it cannot be read
    alive: bool
    touched_at_unix_s: float


_held: dict[Path, tuple[Claim, bool]] = {}
"""What this process has taken, by file, and whether the file is the guard."""


def claim_file(log: Path) -> Path:
    """Where the claim of the run with this log is."""
    return log.with_suffix(SUFFIX)


def take(descriptor: int, log: Path) -> bool:
    """Take the run whose log is open as `descriptor`; False if another process is at it.

    The run stays taken as long as the descriptor is open, or until `release`.
    """
    path, mine = claim_file(log), _own()
    try:
        if not _lock(descriptor):
            return False
    except OSError:  # ENOLCK, ENOSYS, EOPNOTSUPP, ...: no locks here
        if not _take_unlocked(path, mine):
            return False
        _hold(path, mine, guards=True)
        return True
    found = _read(path)
    if found is not None and found.host != mine.host and _beats(path):
        fcntl.flock(descriptor, fcntl.LOCK_UN)
        return False
    with suppress(UserError):  # a full disk, say; the lock is what guards
        files.write_atomically(path, _text(mine))
    _hold(path, mine, guards=False)
    return True


def release(log: Path, pid: int | None = None) -> None:
    """Take away the claim of this process, or of another one of this host that has ended."""
    path = claim_file(log)
    if pid is None:
        _held.pop(path, None)
    found = _read(path)
    owner = (platform.node(), os.getpid() if pid is None else pid)
    if found is not None and (found.host, found.pid) == owner:
        with suppress(OSError):
            path.unlink()


def standing(folder: Path) -> Iterator[tuple[str, Standing]]:
    """The claims in the work folder of a study, by run.

    Raises:
        OSError: the folder cannot be read.
    """
    if not folder.exists():
        return
    with os.scandir(folder) as entries:
        names = sorted(entry.name for entry in entries if entry.name.endswith(SUFFIX))
    for name in names:
        path = folder / name
        if is_id(path.stem) and (found := look(path.with_suffix(".log"))):
            yield path.stem, found


def look(log: Path) -> Standing | None:
    """The claim on the run with this log; None if there is none."""
    path = claim_file(log)
    try:
        touched = path.stat().st_mtime
    except OSError:  # released since the folder was listed, perhaps
        return None
    claim = _read(path)
    return Standing(claim, _alive(log, claim, touched), touched)


def _own() -> Claim:
    return Claim(
        host=platform.node(),
        pid=os.getpid(),
        slurm_job_id=slurm_job_id(),
        restart=requeues(),
        started_at_unix_s=round(time.time(), 3),
    )


def _text(claim: Claim) -> bytes:
    return json.dumps(asdict(claim)).encode()


def _read(path: Path) -> Claim | None:
    """What a claim says; None if it is gone, half written, or no claim."""
    try:
        given = json.loads(path.read_bytes())
        claim = Claim(**given)
        numbers = (claim.pid, claim.restart, claim.started_at_unix_s)
        whole = isinstance(claim.host, str) and isinstance(claim.slurm_job_id, str | None)
        return claim if whole and all(isinstance(n, int | float) for n in numbers) else None
    except (OSError, ValueError, TypeError):
        return None


def _lock(descriptor: int) -> bool:
    for _ in range(N_TRIES):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(TRY_S)
        else:
            return True
    return False


def _take_unlocked(path: Path, mine: Claim) -> bool:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    except FileExistsError:
        if not _stale(path):
            return False
        files.write_atomically(path, _text(mine))
        time.sleep(SETTLE_S)
        return _read(path) == mine
    with os.fdopen(descriptor, "wb") as file:
        file.write(_text(mine))
    return True


def _alive(log: Path, claim: Claim | None, touched_at_unix_s: float) -> bool:
    fresh = time.time() - touched_at_unix_s < DEAD_S
    try:
        descriptor = os.open(log, os.O_RDONLY)
    except OSError:
        return fresh
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return fresh
    finally:
        os.close(descriptor)
    return fresh and (claim is None or claim.host != platform.node())


def _stale(path: Path) -> bool:
    try:
        return time.time() - path.stat().st_mtime >= DEAD_S
    except OSError:
        return False  # released this moment: whoever looks next may have it


def _beats(path: Path) -> bool:
    """Whether somebody touches a claim; it takes some seconds to see that nobody does."""
    if _stale(path):
        return False
    with suppress(OSError):
        first = path.stat().st_mtime_ns
        deadline = time.monotonic() + WATCH_S
        while time.monotonic() < deadline:
            if path.stat().st_mtime_ns != first:
                return True
            time.sleep(BEAT_S / 10)
    return False


def _hold(path: Path, mine: Claim, *, guards: bool) -> None:
    """Touch a claim again and again, from a thread that serves all of this process."""
    beating = bool(_held)
    _held[path] = mine, guards
    if not beating:
        threading.Thread(target=_beat, daemon=True).start()


def _beat() -> None:
    while True:
        time.sleep(BEAT_S)
        if not _held:
            return
        for path, (mine, guards) in list(_held.items()):
            found = _read(path)
            if guards and found is not None and found != mine:
                print("this process was taken for dead, and another one has its run", flush=True)
                os._exit(BUSY)
            if found == mine:
                with suppress(OSError):
                    os.utime(path)
