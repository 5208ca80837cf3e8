"""Small data of the true formats, and examples, for the tasks that label words and write answers.

What is written is drawn from a seed, and kept in Python too, so that tests know what readers should
find without reading the files.
"""

from __future__ import annotations

import lzma
import random
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from tasks.conllu_file import ConlluFile
from tasks.data import cache
from tasks.data.columns import UPOS
from tasks.data.sets import DATA_SETS
from tasks.g2p import G2p
from tasks.ner import Ner
from tasks.pos import Pos
from tasks.python_tokens import PythonTokens
from tasks.task import SPLITS, Split, Task
from tasks.translate import Translate

_EWT = "ud_english_ewt/en_ewt-ud-{}.conllu"
REQUIRED: dict[str, dict[str, object]] = {
    "conllu_file": {
        "path": _EWT.format("train"),
        "val_path": _EWT.format("dev"),
        "test_path": _EWT.format("test"),
    }
}
"""Fields without a default; paths are below the folder in which tests run."""
EXAMPLES: dict[str, Task] = {
    "conllu_file": ConlluFile(length=512, unit="bytes", **REQUIRED["conllu_file"]),  # type: ignore[arg-type]
    "g2p": G2p(length=9, n_val=20, n_test=40),
    "ner": Ner(length=512, unit="bytes"),  # as words, rare ones are alike
    "pos": Pos(length=512, unit="bytes"),
    "python_tokens": PythonTokens(length=100),
    "translate": Translate(length=40, max_answer=50, n_val=20, n_test=40),
}
REPEATING = {"g2p"}
"""A word with several ways to say it is several examples of train."""
LENGTHS: dict[str, list[int]] = {
    "conllu_file": [1, 19, 128],
    "g2p": [9, 20],
    "ner": [5, 64],
    "pos": [1, 19, 128],
    "python_tokens": [1, 63, 1000],
    "translate": [40, 256],
}
N_SENTENCES: dict[Split, int] = {"train": 80, "val": 25, "test": 30}
DOCUMENT = 5  # sentences
LONG = "Donaudampfschifffahrtsgesellschaft"
WORDS = ["a", "Haus", "übers", "don't", "№5", "-", LONG, "de", "la", "Paz", "the", "end"]
TYPES = ("PER", "LOC", "MISC")


@dataclass
class Known:
    """What was written: (words, labels) of each sentence."""

    pos: dict[Split, list[tuple[list[str], list[str]]]]
    ner: dict[Split, list[tuple[list[str], list[str]]]]  # IOB2, whatever the file has
    phones: dict[str, list[list[str]]]
    verses: list[tuple[str, str]]


def _sentences(rng: random.Random, entities: bool) -> Iterator[tuple[list[str], list[str]]]:
    number = 0
    while True:
        number += 1
        n = rng.choice([1, 2, 3, 8, 17, 40])
        # No two sentences are alike; in train one rare word is there once, the other twice.
        words = [f"w{number}", *rng.choices(WORDS, k=n - 1), f"p{number // 2}"]
        if not entities:
            yield words, rng.choices(UPOS, k=n + 1)
            continue
        tags: list[str] = []
        while len(tags) <= n:
            size = min(rng.choice([1, 1, 2, 4]), n + 1 - len(tags))
            kind = rng.choice([None, None, *TYPES])
            tags += ["O"] * size if kind is None else [f"B-{kind}", *[f"I-{kind}"] * (size - 1)]
        yield words, tags


def _iob1(tags: list[str]) -> list[str]:
    """As CoNLL-2003 was published: B- only where the entity before is of the same type."""
    found = []
    for before, tag in zip(["O", *tags], tags, strict=False):
        begins = tag.startswith("B-") and before[2:] != tag[2:]
        found.append(f"I-{tag[2:]}" if begins else tag)
    return found


def conllu(sentences: list[tuple[list[str], list[str]]]) -> str:
    """CoNLL-U with documents, comments, ranges of words and words that are not there."""
    lines = []
    for place, (words, labels) in enumerate(sentences):
        if place % DOCUMENT == 0:
            lines.append(f"# newdoc id = d{place}")
        lines += [f"# text = {' '.join(words)}", f"1-2\t{words[0]}x" + "\t_" * 8]
        lines += [
            f"{n}\t{word}\t_\t{label}\tX{label[0]}" + "\t_" * 5
            for n, (word, label) in enumerate(zip(words, labels, strict=True), 1)
        ]
        lines += ["1.1\tnot\tnot\tADV\tRB" + "\t_" * 5, ""]
    return "\n".join(lines) + "\n"


def conll(sentences: list[tuple[list[str], list[str]]]) -> str:
    """The four columns of CoNLL-2003, with its lines before documents."""
    lines = []
    for place, (words, tags) in enumerate(sentences):
        if place % DOCUMENT == 0:
            lines += ["-DOCSTART- -X- -X- O", ""]
        lines += [f"{w} NN I-NP {t}" for w, t in zip(words, _iob1(tags), strict=True)]
        lines.append("")
    return "\n".join(lines)


def write_data_sets(folder: Path) -> Known:
    """Write all data sets that the examples read."""
    rng = random.Random(5)
    drawn = {kind: _sentences(rng, kind == "ner") for kind in ("pos", "ner")}
    known = Known(
        *({s: [next(drawn[k]) for _ in range(N_SENTENCES[s])] for s in SPLITS} for k in drawn),
        phones={},
        verses=[],
    )
    for name in ("ud_english_ewt", "conll2003", "cmudict", "bible_en_es"):
        (folder / name).mkdir(parents=True)
    for split, part in {"train": "train", "val": "dev", "test": "test"}.items():
        file = folder / "ud_english_ewt" / f"en_ewt-ud-{part}.conllu"
        file.write_text(conllu(known.pos[split]), encoding="utf-8")  # type: ignore[index]
    with zipfile.ZipFile(folder / "conll2003" / "conll2003.zip", "w") as archive:
        for split, part in {"train": "train", "val": "valid", "test": "test"}.items():
            archive.writestr(f"{part}.txt", conll(known.ner[split]))  # type: ignore[index]

    lines = ["a.m. EY2 EH1 M", "x-ray EH1 K S R EY0", "'em AA0 B"]
    known.phones["'em"] = [["AA0", "B"]]
    for _ in range(900):
        word = "".join(rng.choices("abcdefghij", k=rng.randint(1, 9)))
        if word in known.phones:
            continue
        ways = [rng.choices(["AA1", "AA0", "B", "CH"], k=rng.randint(1, 7)) for _ in range(3)]
        known.phones[word] = ways[: rng.choice([1, 1, 2, 3])]
        for number, way in enumerate(known.phones[word], 1):
            variant = "" if number == 1 else f"({number})"
            lines.append(f"{word}{variant} {' '.join(way)}{rng.choice(['', ' # name, danish'])}")
    (folder / "cmudict" / "cmudict.dict").write_text("\n".join(lines) + "\n")

    for number in range(900):
        words = rng.choices(["God", "said", "light,", "is", "good."], k=rng.randint(1, 7))
        other = rng.choices(["Dios", "dijo", "señor,", "luz", "día."], k=rng.randint(1, 7))
        known.verses.append((f"{number} {' '.join(words)}", " ".join(other)))
    table = "".join(f"Genesis {n}\t{a}\t{b}\n" for n, (a, b) in enumerate(known.verses))
    (folder / "bible_en_es" / "web_rv1909.tsv.xz").write_bytes(lzma.compress(table.encode()))
    return known


def use_data_sets(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Take the sets of a folder for the true ones: with no checksum known, and in no package."""
    monkeypatch.setenv(cache.CACHE_VARIABLE, str(folder))
    for name in ("ud_english_ewt", "conll2003", "cmudict", "bible_en_es"):
        files = tuple(
            replace(file, bytes=None, sha256=None, members=()) for file in DATA_SETS[name].files
        )
        monkeypatch.setitem(DATA_SETS, name, replace(DATA_SETS[name], files=files, package=""))


def write(root: Path) -> None:
    """As every module of cases has it."""
    write_data_sets(root)


def use(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As every module of cases has it."""
    use_data_sets(monkeypatch, root)
