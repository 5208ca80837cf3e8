"""Unpacks tar and zip archives that nobody has reason to trust.

Only directories and plain files are written, below a fresh folder, each name once, and no more
bytes than the archive can honestly hold; then all are moved into place. `tarfile`'s own extraction
is not used: what is never created (links, devices, modes, owners) needs no filter.
"""

from __future__ import annotations

import bz2
import gzip
import hashlib
import lzma
import shutil
import stat
import struct
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO, cast

from tasks.data.errors import DataError
from tasks.data.sets import DataFile
from tasks.data.stamp import LOCK_NAME, STAMP_NAME, Tally, Tree, check_digest

MAX_RATIO = 20
"""Unpacked bytes per byte of archive; text in the data sets comes to 5."""
SLACK_BYTES = 2**24
"""Added to that, for small archives that pack well."""
CHUNK_BYTES = 2**20
STAGING_PREFIX = ".unpack-"
RESERVED = (STAGING_PREFIX, STAMP_NAME, LOCK_NAME)


def unpack(archive: Path, file: DataFile) -> Tree:
    """Unpack an archive beside itself.

    Everything appears at once or nothing does: entries that were there under the same names are
    replaced. The caller holds the folder.

    Raises:
        DataError: the archive is broken, hostile, or holds other than the published contents.
        OSError: no room on the disk.
    """
    folder = archive.parent
    for leftover in folder.glob(f"{STAGING_PREFIX}*"):
        shutil.rmtree(leftover, ignore_errors=True)
    staging = Path(tempfile.mkdtemp(dir=folder, prefix=STAGING_PREFIX))
    try:
        tally = _write(archive, staging)
        for name, digest in file.members:
            if not (staging / name).is_file():
                raise DataError(f"{archive} holds no {name}")
            check_digest(staging / name, digest)
        old = Path(tempfile.mkdtemp(dir=staging, prefix=STAGING_PREFIX))
        for name in sorted(tally.top):
            if name == archive.name:
                raise DataError(f"{archive} holds a member of its own name")
            if (folder / name).exists():
                (folder / name).rename(old / name)
            (staging / name).rename(folder / name)
        return tally.tree(folder)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _write(archive: Path, staging: Path) -> Tally:
    tally, bound = Tally(), _Bound(archive)
    try:
        for name, source in _members(archive):
            path = _checked(archive, name)
            if source is None:
                (staging / path).mkdir(parents=True, exist_ok=True)
                continue
            (staging / path).parent.mkdir(parents=True, exist_ok=True)
            digest, size = hashlib.sha256(), 0
            with (staging / path).open("xb") as target:
                while chunk := source.read(CHUNK_BYTES):
                    bound.count(chunk)
                    target.write(chunk)
                    digest.update(chunk)
                    size += len(chunk)
            tally.add(path.as_posix(), size, digest.hexdigest())
    except DataError:
        raise
    except FileExistsError as error:
        raise DataError(f"{archive} holds {Path(error.filename).name} twice") from None
    except NotADirectoryError as error:
        raise DataError(f"{archive} holds a file that is a folder: {error.filename}") from None
    except (
        *(tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error),
        *(EOFError, ValueError, RuntimeError),  # RuntimeError: encrypted, or packed in a rare way
    ) as error:
        raise DataError(f"{archive} cannot be unpacked: {error}") from None
    except OSError as error:
        if error.errno is None:  # gzip and bz2 speak of broken contents in this way
            raise DataError(f"{archive} cannot be unpacked: {error}") from None
        raise
    if not tally.n_files:
        raise DataError(f"{archive} holds no files")
    return tally


def _members(archive: Path) -> Iterator[tuple[str, IO[bytes] | None]]:
    """Names and contents in order; None for a folder. A member's contents are read at once."""
    with archive.open("rb") as file:
        start = file.read(6)
    if start.startswith(b"PK\x03\x04"):
        with zipfile.ZipFile(archive) as opened:
            for entry in opened.infolist():
                kind = stat.S_IFMT(entry.external_attr >> 16)
                if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                    raise DataError(f"{archive}: {entry.filename!r} is neither a file nor a folder")
                if entry.is_dir():
                    yield entry.filename, None
                else:
                    with opened.open(entry) as source:
                        yield entry.filename, source
        return
    with _decompressed(archive, start) as stream:
        bounded = _Bounded(stream, _Bound(archive))
        with tarfile.open(fileobj=bounded, mode="r|") as tar:  # type: ignore[call-overload]
            for member in tar:
                if member.isdir():
                    yield member.name, None
                elif member.isreg():
                    yield member.name, tar.extractfile(member)
                else:
                    raise DataError(f"{archive}: {member.name!r} is neither a file nor a folder")
                tar.members = []  # it keeps all, and some archives have millions
        while bounded.read(CHUNK_BYTES):  # to the end, where the checksum of the compression is
            pass


def _decompressed(archive: Path, start: bytes) -> IO[bytes]:
    if start.startswith(b"\x1f\x8b"):
        return cast("IO[bytes]", gzip.open(archive))
    if start.startswith(b"BZh"):
        return cast("IO[bytes]", bz2.open(archive))
    if start.startswith(b"\xfd7zXZ\0"):
        return cast("IO[bytes]", lzma.open(archive))
    return archive.open("rb")


class _Bound:
    """Counts what comes out of an archive, and stops when it is more than an honest one holds."""

    def __init__(self, archive: Path) -> None:
        self.archive = archive
        self.limit = self.left = MAX_RATIO * archive.stat().st_size + SLACK_BYTES

    def count(self, chunk: bytes) -> None:
        self.left -= len(chunk)
        if self.left < 0:
            raise DataError(
                f"{self.archive} unpacks to over {self.limit} bytes, {MAX_RATIO} times its size: "
                "no data set does"
            )


class _Bounded:
    """A stream whose bytes are counted, headers of members included."""

    def __init__(self, source: IO[bytes], bound: _Bound) -> None:
        self.source, self.bound = source, bound

    def read(self, size: int) -> bytes:
        chunk = self.source.read(size)
        self.bound.count(chunk)
        return chunk


def _checked(archive: Path, name: str) -> PurePosixPath:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name or not name.isprintable():
        raise DataError(f"{archive}: {name!r} would come to lie outside its folder")
    if path.parts and path.parts[0].startswith(RESERVED):
        raise DataError(f"{archive}: {name!r} is a name that the cache needs for itself")
    return path
