"""The class of the token that each byte of Python source belongs to, by Python's own `tokenize`.

https://docs.python.org/3/library/tokenize.html. Up to Python 3.11 an f-string is one string; from
3.12 on the expressions within are tokens of their own.
"""

from __future__ import annotations

import codecs
import io
import keyword
import sys
import tempfile
import tokenize
from collections import defaultdict
from collections.abc import Iterable
from contextlib import suppress
from functools import cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tasks.data import standard_library
from tasks.data.cache import cache_folder
from tasks.data.standard_library import Piece
from tasks.task import Split

CLASSES = (
    *("space", "indent", "newline", "comment", "string"),
    *("number", "keyword", "name", "operator"),
)
NONE = 255
"""In place of a class, for the bytes of a file that `tokenize` refuses."""

VERSION = 1
"""Raised whenever the same text would get other classes from the same Python."""

_OF_TYPE = {
    "INDENT": "indent",
    "NEWLINE": "newline",
    "NL": "newline",
    "COMMENT": "comment",
    "STRING": "string",
    "NUMBER": "number",
    "OP": "operator",
}
_STRING_PARTS = ("FSTRING_", "TSTRING_")
_NUMBERS = {name: number for number, name in enumerate(CLASSES)}


def classes_of(content: bytes) -> NDArray[np.uint8]:
    """The class of each byte: what no token covers, such as a continued line's end, is space.

    Raises:
        SyntaxError: `tokenize` refuses the source.
        UnicodeDecodeError: it is not in the encoding that it says.
    """
    encoding, _ = tokenize.detect_encoding(io.BytesIO(content).readline)
    begin = len(codecs.BOM_UTF8) if content.startswith(codecs.BOM_UTF8) else 0
    encoding = encoding.removesuffix("-sig")
    lines = [line.decode(encoding) for line in io.BytesIO(content[begin:])]
    starts = np.cumsum([begin, *(len(line.encode(encoding)) for line in lines)]).tolist()

    def place(row: int, column: int) -> int:
        if row > len(lines):
            return len(content)
        return int(starts[row - 1]) + len(lines[row - 1][:column].encode(encoding))

    found = np.full(len(content), _NUMBERS["space"], np.uint8)
    following = iter(lines)
    try:
        for token in tokenize.generate_tokens(lambda: next(following, "")):
            name = _class_of(token)
            if name is not None:
                found[place(*token.start) : place(*token.end)] = _NUMBERS[name]
    except tokenize.TokenError as error:
        raise SyntaxError(str(error)) from None
    return found


def _class_of(token: tokenize.TokenInfo) -> str | None:
    kind = tokenize.tok_name[token.type]
    if kind == "NAME":
        return "keyword" if keyword.iskeyword(token.string) else "name"
    if kind.startswith(_STRING_PARTS):
        return "string"
    if kind == "ERRORTOKEN":
        raise SyntaxError(f"{token.string!r} is no token")
    return _OF_TYPE.get(kind)


class ClassedText:
    """The text of a split with its classes; a file is tokenised when it is first looked at.

    All files of train take about thirteen seconds on one core, one file 18 ms. Once all have been
    looked at, the classes are kept in the cache folder, for the processes to come.
    """

    def __init__(self, pieces: list[Piece], kept: Path | None = None) -> None:
        joined = bytearray(b"".join(piece.text for piece in pieces))
        self.text = torch.frombuffer(joined, dtype=torch.uint8)
        self._starts = np.cumsum([0, *(len(piece.text) for piece in pieces)])[:-1]
        self._files = [piece.path for piece in pieces]
        self._of_file: dict[str, list[tuple[int, Piece]]] = defaultdict(list)
        for start, piece in zip(self._starts.tolist(), pieces, strict=True):
            self._of_file[piece.path].append((start, piece))
        self._kept = kept
        found = None if kept is None else _load(kept, len(joined))
        self._waiting = set(self._files) if found is None else set()
        self._classes = torch.full((len(joined),), NONE, dtype=torch.uint8)
        if found is not None:
            self._classes = torch.from_numpy(found)

    def classes(self, starts: Tensor, length: int) -> Tensor:
        """The classes (B, length) of the bytes from `starts` (B,) on, NONE where there is none."""
        if self._waiting:
            first = np.searchsorted(self._starts, starts.numpy(), side="right") - 1
            last = np.searchsorted(self._starts, starts.numpy() + length - 1, side="right") - 1
            for one, other in zip(first.tolist(), last.tolist(), strict=True):
                self._look_at(self._files[one : other + 1])
        return self._classes[starts[:, None] + torch.arange(length)]

    def complete(self) -> None:
        """Tokenise all that is left."""
        self._look_at(sorted(self._waiting))

    def _look_at(self, paths: Iterable[str]) -> None:
        for path in paths:
            if path not in self._waiting:
                continue
            self._waiting.remove(path)
            try:
                found = torch.from_numpy(classes_of(standard_library.content_of(path)))
            except (SyntaxError, UnicodeDecodeError):
                continue
            for start, piece in self._of_file[path]:
                part = found[piece.start : piece.start + len(piece.text)]
                self._classes[start : start + len(part)] = part
            if not self._waiting and self._kept is not None:
                _keep(self._kept, self._classes.numpy())


def _load(path: Path, size: int) -> NDArray[np.uint8] | None:
    """The classes that another process kept; None where there are none, or other ones."""
    try:
        found = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return found if (found.dtype, found.shape) == (np.dtype(np.uint8), (size,)) else None


def _keep(path: Path, classes: NDArray[np.uint8]) -> None:
    """Write a file that appears at once or not at all; a cache that cannot be written has none."""
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
            np.save(file, classes, allow_pickle=False)
        Path(file.name).replace(path)


def version_of_tokenize() -> str:
    """What decides on the classes of a text."""
    return f"tokenize-{sys.version_info[0]}.{sys.version_info[1]}-v{VERSION}"


@cache
def read(task: str) -> dict[Split, ClassedText]:
    """The standard library, split as for language modelling."""
    name = f"{standard_library.sha256(task)[:24]}-{version_of_tokenize()}.npy"
    kept = cache_folder() / "python_tokens" / name
    return {
        split: ClassedText(parts, kept if split == "train" else None)
        for split, parts in standard_library.pieces(task).items()
    }
