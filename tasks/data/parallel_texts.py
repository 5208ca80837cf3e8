"""Lines that mean the same in two languages: columns of a table separated by tabs, UTF-8."""

from __future__ import annotations

import gzip
import hashlib
import lzma
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from tasks.data.errors import DataError
from tasks.data.own_files import Version

OPENERS = {".gz": gzip.decompress, ".xz": lzma.decompress}


@dataclass(frozen=True, eq=False)
class ParallelText:
    """Pairs of a source and its translation, in the order of the file."""

    pairs: Sequence[tuple[str, str]]
    characters: str  # all that occur, sorted
    sha256: str  # of the file


@lru_cache(maxsize=4)
def read(version: Version, source: int, target: int) -> ParallelText:
    """Two columns of a table without a header; a name in .gz or .xz is unpacked.

    Args:
        version: the file.
        source: the column of the sources: from 0 on, or from -1 on backwards.
        target: the column of the translations.

    Raises:
        DataError: the file cannot be read, or a line lacks a column; it is named.
    """
    path = Path(version.path)
    try:
        content = path.read_bytes()
        text = OPENERS.get(path.suffix, bytes)(content).decode("utf-8-sig")
    except (OSError, EOFError, lzma.LZMAError) as error:
        raise DataError(f"{path} cannot be read: {error}") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8: {error}") from None
    pairs, n_columns = [], None
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        cells = line.rstrip("\r").split("\t")
        n_columns = n_columns or len(cells)
        if len(cells) != n_columns:
            raise DataError(f"{path}, line {number} has {len(cells)} columns, not {n_columns}")
        for name, column in (("source", source), ("target", target)):
            if not -n_columns <= column < n_columns:
                raise DataError(f"{path} has {n_columns} columns, and {name}_column is {column}")
            if not cells[column].strip():
                raise DataError(f"{path}, line {number} has an empty column {column}: {line!r}")
        pairs.append((cells[source].strip(), cells[target].strip()))
    if not pairs:
        raise DataError(f"{path} has no lines")
    characters = "".join(sorted(set().union(*(side for pair in pairs for side in pair))))
    return ParallelText(pairs, characters, hashlib.sha256(content).hexdigest())
