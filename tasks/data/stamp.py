"""The stamp beside the files of a data set: what was verified, so that it need not be hashed again.

A file is taken for unchanged if its size and time of change are those in the stamp. Of an archive's
contents, up to a thousand files are looked at in the same way; of more, only that they are there:
a hundred thousand looks take a minute on a network file system. `bench data verify` reads all.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path

from tasks.data.errors import ChecksumError
from tasks.data.sets import DataFile, DataSet

STAMP_NAME = ".verified.json"
LOCK_NAME = ".lock"
MAX_LISTED = 1000
"""Files of an archive that a stamp lists."""


@dataclass(frozen=True)
class Seen:
    """A file as it was when it was hashed."""

    bytes: int
    mtime_ns: int
    sha256: str

    def is_still(self, path: Path) -> bool:
        """Whether the file is there and looks the same."""
        try:
            status = path.stat()
        except OSError:
            return False
        return (status.st_size, status.st_mtime_ns) == (self.bytes, self.mtime_ns)


@dataclass(frozen=True)
class Tree:
    """The unpacked contents of an archive."""

    top: tuple[str, ...]  # names in the data set's folder
    n_files: int
    bytes: int
    sha256: str  # of all paths, sizes and contents
    listed: Mapping[str, tuple[int, int]]  # size and mtime_ns by path; empty if there are too many

    def lies_in(self, folder: Path) -> bool:
        """Whether it is there, be it changed or not."""
        return all((folder / name).exists() for name in self.top)

    def is_still(self, folder: Path) -> bool:
        """Whether it is there and, where files are listed, looks the same."""
        return self.lies_in(folder) and all(
            Seen(*listed, "").is_still(folder / path) for path, listed in self.listed.items()
        )


@dataclass
class Tally:
    """Adds up the files of a tree, in any order: the digest is the sum of one hash per file."""

    n_files: int = 0
    bytes: int = 0
    total: int = 0
    top: set[str] = field(default_factory=set)

    def add(self, path: str, size: int, sha256: str) -> None:
        """Count a file; `path` is relative, with slashes."""
        line = hashlib.sha256(f"{path}\0{size}\0{sha256}".encode())
        self.total = (self.total + int.from_bytes(line.digest(), "big")) % 2**256
        self.n_files += 1
        self.bytes += size
        self.top.add(path.partition("/")[0])

    def tree(self, folder: Path) -> Tree:
        """What was counted, as it lies in `folder` now."""
        listed = {}
        if self.n_files <= MAX_LISTED:
            for path in files_below(folder, tuple(sorted(self.top))):
                status = (folder / path).stat()
                listed[path] = (status.st_size, status.st_mtime_ns)
        return Tree(
            top=tuple(sorted(self.top)),
            n_files=self.n_files,
            bytes=self.bytes,
            sha256=f"{self.total:064x}",
            listed=listed,
        )


@dataclass(frozen=True)
class Stamp:
    """What was verified in a folder."""

    files: Mapping[str, Seen]
    trees: Mapping[str, Tree]  # by the name of the archive

    def holds(self, folder: Path, data_set: DataSet) -> bool:
        """Whether every file of the set is in the folder, as it was verified.

        An archive may be deleted once its contents are there.
        """
        for file in data_set.files:
            path, seen, tree = folder / file.name, self.files.get(file.name), None
            if file.unpack:
                tree = self.trees.get(file.name)
                if tree is None or not tree.is_still(folder):
                    return False
            if tree is not None and not path.exists():
                continue
            if seen is None or not seen.is_still(path):
                return False
            if file.sha256 is not None and seen.sha256 != file.sha256:
                return False  # verified against another table than this one
        return True

    def write(self, folder: Path) -> None:
        """Put the stamp into the folder, in one step."""
        descriptor, name = tempfile.mkstemp(dir=folder, prefix=".partial-")
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                json.dump(asdict(self), file, indent=1, sort_keys=True)
                file.flush()
                os.fchmod(file.fileno(), 0o644)  # mkstemp makes it private
                os.fsync(file.fileno())
            Path(name).replace(folder / STAMP_NAME)
        except BaseException:
            with suppress(OSError):
                Path(name).unlink()
            raise


@contextmanager
def exclusive(folder: Path, waiting: Callable[[], None] | None = None) -> Iterator[bool]:
    """Hold a folder against other processes that would write into it; made if need be.

    Yields whether it can be written. File systems that cannot lock go without.

    Args:
        folder: the folder of a data set.
        waiting: called once if another process holds it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder / LOCK_NAME, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError:
        yield False
        return
    try:
        with suppress(OSError):
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if waiting is not None:
                    waiting()
                fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield True
    finally:
        os.close(descriptor)


def read_stamp(folder: Path) -> Stamp | None:
    """The stamp of a folder; None: there is none that can be read."""
    try:
        given = json.loads((folder / STAMP_NAME).read_text(encoding="utf-8"))
        files = {name: Seen(**seen) for name, seen in given["files"].items()}
        trees = {
            name: Tree(
                top=tuple(tree["top"]),
                n_files=tree["n_files"],
                bytes=tree["bytes"],
                sha256=tree["sha256"],
                listed={path: (size, time) for path, (size, time) in tree["listed"].items()},
            )
            for name, tree in given["trees"].items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return Stamp(files, trees)


def files_below(folder: Path, top: tuple[str, ...]) -> Iterator[str]:
    """The relative paths of the files among and below the entries `top` of a folder."""
    for name in top:
        if (folder / name).is_file():
            yield name
        for parent, _, files in os.walk(folder / name):
            for file in files:
                yield (Path(parent) / file).relative_to(folder).as_posix()


def tally_of(folder: Path, top: tuple[str, ...]) -> Tally:
    """Read and count all files among and below the entries `top` of a folder."""
    tally = Tally()
    for path in files_below(folder, top):
        tally.add(path, (folder / path).stat().st_size, hash_file(folder / path))
    return tally


def inspect(path: Path, file: DataFile, first_use: str | None = None) -> Seen:
    """Hash a file and compare.

    Args:
        path: the file.
        file: what is known of it.
        first_use: its sha256 when it was first had, which counts where none is published.

    Raises:
        ChecksumError: it is another file than the one known.
    """
    status = path.stat()
    if file.bytes is not None and status.st_size != file.bytes:
        raise ChecksumError(f"{path} has {status.st_size} bytes, not {file.bytes}")
    sha256 = _remembered_hash(path, status.st_size, status.st_mtime_ns, status.st_ino)
    known = file.sha256 or first_use
    if known is not None and sha256 != known:
        since = "" if file.sha256 else ", which it had when it was first used"
        raise ChecksumError(f"{path} has sha256 {sha256}, not {known}{since}")
    if file.sha256 is None and file.md5 is not None:
        check_digest(path, file.md5)
    return Seen(bytes=status.st_size, mtime_ns=status.st_mtime_ns, sha256=sha256)


def check_digest(path: Path, digest: str) -> None:
    """Compare a file with an md5 or sha256.

    Raises:
        ChecksumError: they differ.
    """
    kind = "md5" if len(digest) == 32 else "sha256"
    found = hash_file(path, kind)
    if found != digest:
        raise ChecksumError(f"{path} has {kind} {found}, not {digest}")


def hash_file(path: Path, kind: str = "sha256") -> str:
    """The hash of a file's bytes in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(
            file, lambda: hashlib.new(kind, usedforsecurity=False)
        ).hexdigest()


@lru_cache(maxsize=256)
def _remembered_hash(path: Path, size: int, mtime_ns: int, inode: int) -> str:
    """The sha256 of a file: where no stamp can be written, a process hashes it once."""
    return hash_file(path)
