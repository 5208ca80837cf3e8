"""The files of the Long Range Arena release: ListOps, AAN pairs, Pathfinder.

Tay et al. 2021, https://arxiv.org/abs/2011.04006; https://github.com/google-research/
long-range-arena. Formats: lra_benchmarks/data/listops.py and pathfinder.py,
lra_benchmarks/matching/input_pipeline.py, and state-spaces/s4 src/dataloaders/lra.py.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tasks.data.cache import set_folder
from tasks.data.documents import Documents
from tasks.data.errors import DataError
from tasks.data.expressions import CLOSING, FIRST_DIGIT, FIRST_OPERATOR, SYMBOLS, Expressions
from tasks.task import SPLITS, Split

LISTOPS_SIZES: dict[Split, int] = {"train": 96_000, "val": 2_000, "test": 2_000}
LISTOPS_HEADER = b"Source\tTarget"
PAIR_FILES: dict[Split, str] = {"train": "train", "val": "eval", "test": "test"}
CONTOUR_FOLDERS = {6: "curv_baseline", 9: "curv_contour_length_9", 14: "curv_contour_length_14"}
EMPTY_IMAGE = ("pathfinder32", "curv_baseline", "imgs/0/sample_172.png")
"""A file without contents in the release."""

_MARKED = range(FIRST_OPERATOR, CLOSING + 1)
_MARKS = b"abcde"
"""Stand for the four operators and the closing bracket while a line is parsed."""


@dataclass(frozen=True)
class Pairs:
    """Pairs of documents; a document that is in several pairs is kept once."""

    documents: Documents
    members: Tensor  # (N, 2) places in documents
    labels: Tensor  # (N,) 1: one cites the other


@dataclass(frozen=True)
class Images:
    """Paths of images below a folder, and their labels (N,)."""

    folder: Path
    paths: tuple[str, ...]
    labels: Tensor


def folder(name: str) -> Path:
    """A folder of the release, whether the archive's two outer folders were kept or not."""
    root = set_folder("lra")
    for outer in ("lra_release/lra_release", "lra_release", "."):
        if (root / outer / name).is_dir():
            return root / outer / name
    raise DataError(f"data set 'lra': {root} holds no lra_release/lra_release/{name}")


def read_listops(path: Path) -> Expressions:
    """Read tab-separated lines of an expression in binary brackets and its value, with a header.

    The round brackets of the binary form are left out: they say nothing.
    """
    known = _MARKS + b"0123456789"
    table = bytearray(256)
    for byte, place in zip(known, (*_MARKED, *range(FIRST_DIGIT, FIRST_DIGIT + 10)), strict=True):
        table[byte] = place
    texts, values = [], []
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            source, tab, target = line.rstrip(b"\r\n").partition(b"\t")
            if number == 1:
                if source + tab + target != LISTOPS_HEADER:
                    raise DataError(f"{path}:1: the header is not {LISTOPS_HEADER.decode()!r}")
                continue
            strange = source.translate(None, b"()[] 0123456789MINAXEDS")
            for mark, place in zip(_MARKS, _MARKED, strict=True):
                source = source.replace(SYMBOLS[place].encode(), bytes([mark]))
            text = source.translate(None, b"( )")
            strange += text.translate(None, known)
            if not text or strange or len(target) != 1 or not target.isdigit():
                raise DataError(f"{path}:{number}: not an expression of ListOps and its value")
            texts.append(text.translate(table))
            values.append(int(target))
    return Expressions(Documents.of(texts), torch.tensor(values))


@cache
def listops(split: Split) -> Expressions:
    """The expressions of a split."""
    path = folder("listops-1000") / f"basic_{split}.tsv"
    read = read_listops(path)
    if len(read.values) != LISTOPS_SIZES[split]:
        raise DataError(
            f"{path} has {len(read.values)} expressions; {LISTOPS_SIZES[split]} were released"
        )
    return read


@cache
def listops_sha256() -> str:
    """A hash of the expressions and values of all splits."""
    digest = hashlib.sha256()
    for split in SPLITS:
        read = listops(split)
        for part in (read.texts.symbols, read.texts.ends, read.values):
            digest.update(part.numpy().tobytes())
    return digest.hexdigest()


def read_pairs(path: Path, longest: int) -> Pairs:
    """Read lines of label, two ids and two texts between tabs; no header, no quotes.

    Args:
        path: the file.
        longest: bytes of each text that are kept.
    """
    texts: dict[bytes, int] = {}
    members, labels = [], []
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            columns = line.rstrip(b"\r\n").split(b"\t")
            if len(columns) != 5 or columns[0] not in (b"0", b"1", b"0.0", b"1.0"):
                raise DataError(
                    f"{path}:{number}: not a line of label, two ids and two texts between tabs"
                )
            labels.append(int(columns[0][:1]))
            cut = (text[:longest] for text in columns[3:])
            members.append([texts.setdefault(text, len(texts)) for text in cut])
    if not members:
        raise DataError(f"{path} is empty")
    return Pairs(Documents.of(texts), torch.tensor(members), torch.tensor(labels))


@cache
def pairs(split: Split, longest: int) -> Pairs:
    """The pairs of a split."""
    return read_pairs(folder("tsv_data") / f"new_aan_pairs.{PAIR_FILES[split]}.tsv", longest)


@cache
def pairs_sha256(longest: int) -> str:
    """A hash of the pairs of all splits, of each text the first `longest` bytes."""
    digest = hashlib.sha256()
    for split in SPLITS:
        read = pairs(split, longest)
        for part in (read.documents.symbols, read.documents.ends, read.members, read.labels):
            digest.update(part.numpy().tobytes())
    return digest.hexdigest()


def read_images(root: Path, contour: str) -> Images:
    """List the images of a difficulty, in the order of the release.

    The metadata are text, whatever their names say: one line per image, whose fields are folder,
    file, number, label and the options it was drawn with.
    """
    paths, labels = [], []
    metadata = list((root / contour / "metadata").glob("*.npy"))
    if not metadata:
        raise DataError(f"{root / contour} has no metadata/*.npy")
    for file in sorted(metadata, key=_batch_number):
        for number, fields in _lines(file):
            if len(fields) < 4 or fields[3] not in ("0", "1"):
                raise DataError(f"{file}:{number}: not a line of folder, file, number and label")
            path = f"{fields[0]}/{fields[1]}"
            if (root.name, contour, path) != EMPTY_IMAGE:
                paths.append(f"{contour}/{path}")
                labels.append(int(fields[3]))
    return Images(root, tuple(paths), torch.tensor(labels))


@cache
def images(side: int, contour_length: int) -> Images:
    """The images of a size and difficulty."""
    return read_images(folder(f"pathfinder{side}"), CONTOUR_FOLDERS[contour_length])


@cache
def images_sha256(side: int, contour_length: int) -> str:
    """A hash of the paths and labels; the images themselves are hashed when they are unpacked."""
    listed = images(side, contour_length)
    digest = hashlib.sha256("\n".join(listed.paths).encode())
    digest.update(listed.labels.numpy().tobytes())
    return digest.hexdigest()


def read_png(path: Path, side: int) -> np.ndarray[tuple[int, int], np.dtype[np.uint8]]:
    """A grey image (side, side).

    Raises:
        DataError: it is not a PNG of that size.
    """
    from PIL import Image

    try:
        with Image.open(path, formats=("PNG",)) as image:
            grey = np.array(image.convert("L"))
    except (OSError, SyntaxError, ValueError) as error:  # Pillow says of broken PNG files all three
        raise DataError(f"{path} is no PNG image: {error}") from None
    if grey.shape != (side, side):
        raise DataError(f"{path} is {grey.shape[1]} x {grey.shape[0]}, not {side} x {side}")
    return grey


def _batch_number(path: Path) -> int:
    if not path.stem.isdigit():
        raise DataError(f"{path} is not named by a number")
    return int(path.stem)


def _lines(path: Path) -> Iterator[tuple[int, list[str]]]:
    try:
        text = path.read_text(encoding="ascii")
    except UnicodeDecodeError:
        raise DataError(f"{path} is not text, as it is in the release") from None
    for number, line in enumerate(text.splitlines(), 1):
        yield number, line.split()
