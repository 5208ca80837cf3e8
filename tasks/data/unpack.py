"""Unpacks tar and zip archives that nobody has reason to trust.

Only directories and plain files are written, below a fresh folder, each name once, and no more
bytes than the archive can honestly hold; then all are moved into place. `tarfile`'s own extraction
is not used: what is never created (links, devices, modes, owners) needs no filter.
"""

from __future__ import annotations

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
from typing import IO

from tasks.data.errors import DataError
from tasks.data.sets import DataFile
from tasks.data.stamp import LOCK_NAME, STAMP_NAME, Tally, Tree, check_digest

MAX_RATIO = 20
"""Unpacked bytes per byte of archive; text in the data sets comes to 5."""
SLACK_BYTES = 2**20
MEMBER_BYTES = 512
"""What a member counts for beside its contents, so that a million empty ones are too many."""
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
    tally, limit = Tally(), MAX_RATIO * archive.stat().st_size + SLACK_BYTES
    written = 0
    try:
        for name, source in _members(archive):
            path = _checked(archive, name)
            written += MEMBER_BYTES
            if source is None:
                (staging / path).mkdir(parents=True, exist_ok=True)
                continue
            (staging / path).parent.mkdir(parents=True, exist_ok=True)
            digest, size = hashlib.sha256(), 0
            with (staging / path).open("xb") as target:
                while chunk := source.read(CHUNK_BYTES):
                    size += len(chunk)
                    if written + size > limit:
                        raise DataError(
                            f"{archive} unpacks to over {limit} bytes, {MAX_RATIO} times its size: "
                            "no data set does"
                        )
                    target.write(chunk)
                    digest.update(chunk)
            written += size
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
        is_zip = file.read(4) == b"PK\x03\x04"
    if is_zip:
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
    with tarfile.open(archive, "r|*") as tar:
        for member in tar:
            if member.isdir():
                yield member.name, None
            elif member.isreg():
                yield member.name, tar.extractfile(member)
            else:
                raise DataError(f"{archive}: {member.name!r} is neither a file nor a folder")
            tar.members = []  # type: ignore[attr-defined]  # it keeps all, and some have millions


def _checked(archive: Path, name: str) -> PurePosixPath:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name or not name.isprintable():
        raise DataError(f"{archive}: {name!r} would come to lie outside its folder")
    if path.parts and path.parts[0].startswith(RESERVED):
        raise DataError(f"{archive}: {name!r} is a name that the cache needs for itself")
    return path
