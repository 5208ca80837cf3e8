"""Archives for tests, fair and hostile, made in memory."""

from __future__ import annotations

import io
import stat
import tarfile
import zipfile

TREE = {"a/one.txt": b"1" * 1000, "a/b/two.txt": b"22", "three": b""}
"""Files by name, in folders and not, one of them empty."""


def tarred(members: dict[str, bytes], mode: str = "w:gz", *extra: tarfile.TarInfo) -> bytes:
    """A tar archive of files by name, and of entries without content."""
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode=mode) as archive:  # type: ignore[call-overload]
        for name, content in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
        for entry in extra:
            archive.addfile(entry)
    return target.getvalue()


def zipped(members: dict[str, bytes], *links: str) -> bytes:
    """A zip archive of files by name, and of symbolic links that lead out of it."""
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
        for name in links:
            entry = zipfile.ZipInfo(name)
            entry.external_attr = (stat.S_IFLNK | 0o777) << 16
            archive.writestr(entry, "/etc/passwd")
    return target.getvalue()


def special(kind: bytes, name: str = "a/bad", link: str = "/etc/passwd") -> tarfile.TarInfo:
    """An entry of a tar archive that is no file: a link, a device, a pipe."""
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname = kind, link
    return entry
