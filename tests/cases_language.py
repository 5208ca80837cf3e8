"""Examples of the language modelling tasks, on small files of the true formats."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tasks import TASKS
from tasks.data import sets
from tasks.data.tiny_shakespeare import ALPHABET
from tasks.task import Task
from tests.archives import zipped

OWN_FILE = "own.txt"
"""A text of one's own, in the folder in which tests run."""

REQUIRED: dict[str, dict[str, object]] = {"text_file": {"path": OWN_FILE}}
"""Fields without a default."""
EXAMPLES: dict[str, Task] = {
    "enwik8": TASKS["enwik8"](length=33),
    "ptb": TASKS["ptb"](length=33),
    "shakespeare": TASKS["shakespeare"](length=33),
    "text8": TASKS["text8"](length=33),
    "text_file": TASKS["text_file"](length=33, **REQUIRED["text_file"]),  # type: ignore[arg-type]
    "wikitext103": TASKS["wikitext103"](length=33, bpe=300),  # type: ignore[call-arg]
    "wikitext2": TASKS["wikitext2"](length=33),
}
LENGTHS: dict[str, list[int]] = {name: [1, 63, 700] for name in EXAMPLES}
WINDOWED = set(EXAMPLES)

# Of the small files.
N_CHARACTERS = 400_003
N_LINES = {"train": 20_000, "valid": 2_000, "test": 2_001}
N_WORDS = 97


def characters(alphabet: str, seed: int) -> bytes:
    """A text in which some characters are frequent, and no long piece comes twice."""
    rng = np.random.default_rng(seed)
    shares = 1 / np.arange(1, len(alphabet) + 1)
    drawn = rng.choice(len(alphabet), N_CHARACTERS, p=shares / shares.sum())
    return np.frombuffer(alphabet.encode("latin-1"), np.uint8)[drawn].tobytes()


def lines(n_lines: int, seed: int) -> bytes:
    """Lines as in PTB and WikiText: a space, words with one space after each; some are empty."""
    rng = np.random.default_rng(seed)
    words = ["<unk>", "N", "@-@", "é", *(f"w{number}" for number in range(N_WORDS - 4))]
    shares = 1 / np.arange(1, N_WORDS + 1)
    drawn = rng.choice(N_WORDS, n_lines * 20, p=shares / shares.sum()).tolist()
    found, place = [], 0
    for n in rng.integers(0, 20, n_lines).tolist():
        found.append("".join(f" {words[word]}" for word in drawn[place : place + n]) + " \n")
        place += n
    return "".join(found).encode()


def splits(pattern: str, seed: int) -> dict[str, bytes]:
    """The contents of three files, named by a pattern."""
    named = {split: pattern.format(split) for split in N_LINES}
    return {named[split]: lines(n, seed + i) for i, (split, n) in enumerate(N_LINES.items())}


PTB = "ptb.{}.txt"
ENWIK8 = "".join(map(chr, range(256)))  # any byte may come; latin-1 makes them of these
CONTENTS: dict[str, Callable[[], dict[str, bytes]]] = {
    "enwik8": lambda: {"enwik8.zip": zipped({"enwik8": characters(ENWIK8, 1)})},
    "ptb": lambda: splits(PTB, 10),
    "shakespeare": lambda: {"input.txt": characters(ALPHABET, 2)},
    "text8": lambda: {"text8.zip": zipped({"text8": characters(" etaoinshrdlucmfwypvbgkjqxz", 3)})},
    "wikitext103": lambda: {
        "wikitext-103-v1.zip": zipped(splits("wikitext-103/wiki.{}.tokens", 20))
    },
    "wikitext2": lambda: {"wikitext-2-v1.zip": zipped(splits("wikitext-2/wiki.{}.tokens", 30))},
}


def write(root: Path) -> None:
    """Put all data sets, small, into the folder of a cache, and one's own file beside them."""
    for name, contents in CONTENTS.items():
        (root / name).mkdir(parents=True)
        for file, content in contents().items():
            (root / name / file).write_bytes(content)
    (root / OWN_FILE).write_bytes(lines(N_LINES["train"], 40))


def use(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make that folder the current one and the cache of data sets, which have no checksums now."""
    monkeypatch.setenv("SEQBENCH_DATA", str(root))
    monkeypatch.chdir(root)
    for name in (*CONTENTS, "ptb_simple_examples"):
        known = sets.DATA_SETS[name]
        files = tuple(
            replace(file, bytes=None, sha256=None, md5=None, members=()) for file in known.files
        )
        monkeypatch.setitem(sets.DATA_SETS, name, replace(known, files=files))
