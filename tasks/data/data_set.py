"""What is known of a data set and of its files. The sets themselves are in sets.py."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class DataFile:
    """A file as it is downloaded."""

    name: str
    urls: tuple[str, ...]  # tried in turn
    bytes: int | None
    sha256: str | None
    md5: str | None = None  # checked only where no sha256 is known
    unpack: bool = False  # a tar or zip whose contents come to lie beside it
    members: tuple[tuple[str, str], ...] = ()  # all it holds, if published: (path, md5 or sha256)


@dataclass(frozen=True, kw_only=True)
class DataSet:
    """What a task reads. A set without files lies inside `package`."""

    title: str
    source: str
    licence: str
    files: tuple[DataFile, ...] = ()
    package: str = ""  # as it is imported; "python" is the running Python
    package_path: str = ""  # the folder inside the package that holds the same files, if any does
    citation: str = ""
    note: str = ""

    @property
    def bytes(self) -> int | None:
        """To download; None: not known of every file."""
        sizes = [file.bytes for file in self.files]
        return None if None in sizes else sum(size for size in sizes if size is not None)

    @property
    def can_be_downloaded(self) -> bool:
        """Whether an address is known for every file."""
        return bool(self.files) and all(file.urls for file in self.files)
