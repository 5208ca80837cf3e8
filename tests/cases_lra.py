"""Examples, lengths and slow solvers of the Long Range Arena tasks, for the laws of every task."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PillowImage
from torch import Tensor

import tasks.image
from tasks.data import cifar10, imdb, lra
from tasks.docstring_pairs import DocstringPairs
from tasks.image import Image
from tasks.listops import Listops
from tasks.pathfinder import Pathfinder
from tasks.pathx import PathX
from tasks.retrieval import Retrieval
from tasks.task import Task
from tasks.text import Text

EXAMPLES: dict[str, Task] = {
    "docstring_pairs": DocstringPairs(length=61),
    "image": Image(length=64),
    "listops": Listops(length=100),
    "pathfinder": Pathfinder(contour_length=6, n_train=500, n_val=100, n_test=100),
    "pathx": PathX(contour_length=6, n_train=8, n_val=4, n_test=4),
    "retrieval": Retrieval(length=31),
    "text": Text(length=31),
}
REPEATING = {"docstring_pairs"}
"""A docstring that says the same of two functions."""
OTHER_CHANCE = {"listops"}
"""Chance is that of the commonest value, not of a guess with the values' frequencies."""
LENGTHS: dict[str, list[int]] = {
    "docstring_pairs": [1, 63, 512],
    "image": [64, 256, 1024],
    "listops": [19, 64, 501],
    "pathfinder": [1024],
    "pathx": [16384],
    "retrieval": [1, 33],
    "text": [1, 33],
}

N_REVIEWS = 40
CACHED = [
    *(lra.listops, lra.listops_sha256, lra.pairs, lra.pairs_sha256, lra.images, lra.images_sha256),
    *(imdb.reviews, imdb.sha256, cifar10.images, cifar10.sha256),
]

SYMBOLS = ["", *"0123456789", "[MIN", "[MAX", "[MED", "[SM", "]"]


def value_of(tokens: list[str]) -> int:
    """The value of an expression, from its definition; takes its tokens off the list."""
    token = tokens.pop(0)
    if token.isdigit():
        return int(token)
    arguments = []
    while tokens[0] != "]":
        arguments.append(value_of(tokens))
    tokens.pop(0)
    ordered = sorted(arguments)
    n = len(ordered)
    median = ordered[n // 2] if n % 2 else (ordered[n // 2 - 1] + ordered[n // 2]) // 2
    return {
        "[MIN": ordered[0],
        "[MAX": ordered[-1],
        "[MED": median,
        "[SM": sum(arguments) % 10,
    }[token]


def solve_listops(task: Task, inputs: Tensor) -> int:
    tokens = [SYMBOLS[symbol] for symbol in inputs.tolist() if symbol]
    found = value_of(tokens)
    assert not tokens
    return found


SOLVERS = {"listops": solve_listops}


def write(root: Path) -> None:
    """Write small data sets of the true formats."""
    released = root / "lra/lra_release/lra_release"
    write_listops(released / "listops-1000")
    write_pairs(released / "tsv_data")
    write_images(released / "pathfinder32/curv_contour_length_14")
    write_reviews(root / "imdb/aclImdb")
    write_cifar(root / "cifar10/cifar-10-batches-bin")


def use(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have them read in the place of the published ones, of which they have the sizes' ratios."""
    for module, name in ((lra, "lra"), (imdb, "imdb"), (cifar10, "cifar10")):
        monkeypatch.setattr(module, "set_folder", lambda _, name=name: root / name)
    monkeypatch.setattr(lra, "LISTOPS_SIZES", {"train": 3, "val": 2, "test": 2})
    monkeypatch.setattr(imdb, "N_REVIEWS", N_REVIEWS)
    monkeypatch.setattr(cifar10, "FILE_IMAGES", 20)
    for name, n in (("N_TRAIN", 80), ("N_HELD_OUT", 20), ("N_TEST", 20)):
        monkeypatch.setattr(tasks.image, name, n)
    for function in CACHED:
        function.cache_clear()  # type: ignore[attr-defined]


def write_listops(folder: Path) -> None:
    folder.mkdir(parents=True)
    lines = {
        "train": ["( ( ( [MIN 1 ) 2 ) ] )\t1", "( ( ( [SM 9 ) 8 ) ] )\t7", "( ( [MED 3 ) ] )\t3"],
        "val": ["( ( ( [MAX 1 ) ( ( ( [MIN 4 ) 5 ) ] ) ) ] )\t4", "( ( ( [MED 1 ) 4 ) ] )\t2"],
        "test": ["( ( [MIN 0 ) ] )\t0", "( ( [MIN 6 ) ] )\t6"],
    }
    for split, of_split in lines.items():
        text = "\r\n".join(["Source\tTarget", *of_split, ""])
        (folder / f"basic_{split}.tsv").write_bytes(text.encode())


def write_pairs(folder: Path) -> None:
    folder.mkdir(parents=True)
    for split in ("train", "eval", "test"):
        lines = [
            f"{k % 2}.0\tP{k}\tQ{k}\t{split} paper {k} \u00e9\tother {split} {k // 2}" + "x" * k
            for k in range(30)
        ]
        (folder / f"new_aan_pairs.{split}.tsv").write_text("\n".join(lines) + "\n", "utf-8")


def write_images(folder: Path) -> None:
    (folder / "metadata").mkdir(parents=True)
    for batch in (10, 2):
        (folder / f"imgs/{batch}").mkdir(parents=True)
        lines = []
        for k in range(5):
            lines.append(f"imgs/{batch} sample_{k}.png {k} {k % 2} 1.0 14 4 2 0.5 1 1")
            pixels = np.full((32, 32), batch * 10 + k, dtype=np.uint8)
            PillowImage.fromarray(pixels).save(folder / f"imgs/{batch}/sample_{k}.png")
        (folder / f"metadata/{batch}.npy").write_text("\n".join(lines) + "\n")


def write_reviews(root: Path) -> None:
    for split in ("train", "test"):
        for label, name in enumerate(("neg", "pos")):
            (root / split / name).mkdir(parents=True)
            for k in range(N_REVIEWS // 2):
                text = f"{split} {'good' if label else 'bad'} film {k}<br />"
                (root / split / name / f"{k}_{1 + 9 * label}.txt").write_text(text)


def write_cifar(folder: Path) -> None:
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name in (*cifar10.FILES["train"], *cifar10.FILES["test"]):
        records = rng.integers(0, 256, (20, cifar10.RECORD_BYTES), dtype=np.uint8)
        records[:, 0] = np.arange(20) % 10
        (folder / name).write_bytes(records.tobytes())
