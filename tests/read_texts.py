"""Small files of words, and what readers of texts made of files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from tasks.data import encoded as encoded_module
from tasks.data.corpus import Corpus
from tasks.task import SPLITS, Split


def tokens(corpus: Corpus, split: Split) -> list[int]:
    """The tokens of a split, the one before them first."""
    return corpus.windows(split, torch.tensor([0]), corpus.n_tokens(split))[0].tolist()


def word_files(folder: Path, train: str, val: str = " a \n", test: str = " b \n") -> dict:
    folder.mkdir(exist_ok=True)
    files = {split: folder / f"{split}.txt" for split in SPLITS}
    for split, text in zip(SPLITS, (train, val, test), strict=True):
        files[split].write_text(text, encoding="utf-8")
    return files


def symbols_of(root: Path, kind: str) -> list[str]:
    """What an encoded text's numbers stand for, as the cache keeps it."""
    (folder,) = (root / "encoded").glob(f"{kind}-*")
    return encoded_module._load(folder / "done").symbols


def real(name: str) -> Path:
    """A folder of true files, or skip."""
    given = os.environ.get("SEQBENCH_TEST_DATA")
    if not given or not (Path(given) / name).is_dir():
        pytest.skip(f"SEQBENCH_TEST_DATA names no folder with {name}")
    return Path(given) / name
