"""Whether compute nodes can see a folder, as far as this machine can tell."""

from __future__ import annotations

import re
from pathlib import Path

MOUNTS = Path("/proc/self/mountinfo")
OF_ONE_MACHINE = frozenset(("aufs", "devtmpfs", "overlay", "ramfs", "rootfs", "squashfs", "tmpfs"))
"""File systems in memory, or of a container. A disk may be exported by the machine that has it."""
PRIVATE = tuple(map(Path, ("/tmp", "/var/tmp", "/dev/shm", "/run")))
NETWORKED = re.compile(r"nfs|lustre|gpfs|beegfs|ceph|afs|fuse|cifs|smb|9p|virtiofs|panfs|wekafs")


def why_hidden(folder: Path, mounts: Path = MOUNTS) -> str | None:
    """Why no other machine sees this folder; None if it may well."""
    place = folder.resolve()
    kind = _file_system(place, mounts)
    if kind is not None and NETWORKED.search(kind):
        return None
    for private in PRIVATE:
        if place.is_relative_to(private):
            return f"{private} is this machine's own"
    if kind in OF_ONE_MACHINE:
        return f"its file system, {kind}, is this machine's own"
    return None


def _file_system(place: Path, mounts: Path) -> str | None:
    """The type of the file system that a path is on; None where the system does not tell."""
    try:
        lines = mounts.read_text(errors="surrogateescape").splitlines()
    except OSError:
        return None
    found: tuple[int, str] | None = None
    for line in lines:
        before, _, after = line.partition(" - ")
        words, kinds = before.split(" "), after.split(" ")
        if len(words) < 5:
            continue
        point = Path(re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), words[4]))
        depth = len(point.parts)
        # Of two at one place the later one lies on top.
        if place.is_relative_to(point) and (found is None or depth >= found[0]):
            found = (depth, kinds[0])
    return None if found is None else found[1]
