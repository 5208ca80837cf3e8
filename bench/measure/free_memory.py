"""How much memory this process may still take on a CPU, by all that limits it."""

from __future__ import annotations

import resource
from pathlib import Path

from bench.process import data_bytes

SHARE = 0.9
"""The part of what is free that a measurement may take."""
UNLIMITED = 1 << 60  # cgroups write a larger number, or `max`, where there is no limit
CGROUPS = {  # by controller in /proc/self/cgroup: folder, limit, usage; '' is version 2
    "": ("", "memory.max", "memory.current", "inactive_file"),
    "memory": ("memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
}


def free_bytes() -> int | None:
    """The least of the system's, the control groups' and the process's own; None: unknown."""
    found = [_system(), _control_groups(), _process()]
    known = [value for value in found if value is not None]
    return max(0, min(known)) if known else None


def _system() -> int | None:
    available = _kilobytes(Path("/proc/meminfo"), "MemAvailable:")
    return None if available is None else int(SHARE * available)


def _process() -> int | None:
    soft, _ = resource.getrlimit(resource.RLIMIT_DATA)
    return None if soft == resource.RLIM_INFINITY else soft - data_bytes()


def _control_groups(
    membership: Path = Path("/proc/self/cgroup"), root: Path = Path("/sys/fs/cgroup")
) -> int | None:
    """The least that a group of this process, or one around it, leaves; file caches are free."""
    left: list[int] = []
    for line in membership.read_text().splitlines() if membership.exists() else ():
        _, controllers, path = line.split(":", 2)
        for name in set(controllers.split(",")) & CGROUPS.keys():
            folder, limit, usage, cache = CGROUPS[name]
            group = Path(path)
            for inner in (group, *group.parents):
                place = root / folder / str(inner).lstrip("/")
                most, used = _number(place / limit), _number(place / usage)
                if most is not None and used is not None:
                    left.append(most - used + (_entry(place / "memory.stat", cache) or 0))
    return int(SHARE * min(left)) if left else None


def _number(path: Path) -> int | None:
    """The limit or usage in a file; None where there is none."""
    try:
        value = int(path.read_text())
    except (OSError, ValueError):
        return None
    return value if value < UNLIMITED else None


def _entry(path: Path, key: str) -> int | None:
    """The number beside a key."""
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return None
    found = (line.split() for line in lines)
    return next((int(words[1]) for words in found if words and words[0] == key), None)


def _kilobytes(path: Path, key: str) -> int | None:
    value = _entry(path, key)
    return None if value is None else value * 1024
