"""Texts as numbers: what the readers make of the files of the published sets."""

from __future__ import annotations

import bz2
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from tasks import TASKS
from tasks.data import mahoney, ptb, tiny_shakespeare, wikitext
from tasks.data.cache import set_folder, status
from tasks.data.corpus import read_bytes, read_characters
from tasks.data.errors import DataError
from tasks.task import SPLITS
from tests import cases_language
from tests.archives import tarred
from tests.read_texts import real, tokens

pytestmark = pytest.mark.usefixtures("empty_cache")
PUBLISHED = {"ptb": 10_000, "wikitext2": 33_278, "wikitext103": 267_735}
"""Symbols, <unk> and <eos> among them."""


# Characters and bytes


def test_bytes_are_cut_by_position(tmp_path: Path) -> None:
    raw = cases_language.characters(cases_language.ENWIK8, 7)[:1007]
    (tmp_path / "enwik8").write_bytes(raw)
    corpus = mahoney.read_enwik8(tmp_path)
    assert [corpus.n_tokens(split) for split in SPLITS] == [1007 - 50 - 50 - 1, 50, 50]
    assert bytes(tokens(corpus, "train")) == raw[:907]
    assert bytes(tokens(corpus, "val")) == raw[906:957]
    assert bytes(tokens(corpus, "test")) == raw[956:]


def test_the_published_text_is_cut_90_5_5_million(tmp_path: Path) -> None:
    with (tmp_path / "enwik8").open("wb") as file:
        file.truncate(100_000_000)  # takes no room on the disk
    corpus = mahoney.read_enwik8(tmp_path)
    sizes = [corpus.n_tokens(split) for split in SPLITS]
    assert sizes == [90_000_000 - 1, 5_000_000, 5_000_000]


def test_characters_have_the_numbers_of_the_alphabet(tmp_path: Path) -> None:
    text = ("the quick brown fox " * 10).encode()
    (tmp_path / "text8").write_bytes(text)
    corpus = mahoney.read_text8(tmp_path)
    found = "".join(mahoney.TEXT8_ALPHABET[token] for token in tokens(corpus, "train"))
    assert found == text.decode()[:180]
    assert corpus.n_symbols == 27
    assert corpus.counts("train", 179).tolist() == [
        found[1:].count(character) for character in mahoney.TEXT8_ALPHABET
    ]
    (tmp_path / "upper").write_bytes(text[:50] + b"X" + text[50:])
    with pytest.raises(DataError, match=r"upper: b'X' at byte 50 is none of ' abc"):
        read_characters(tmp_path / "upper", mahoney.TEXT8_ALPHABET)


@pytest.mark.parametrize(("content", "message"), [(b"", "is empty"), (b"abc", "has 3 tokens: too")])
def test_texts_too_short_for_three_splits_raise(
    tmp_path: Path, content: bytes, message: str
) -> None:
    (tmp_path / "short").write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_bytes(tmp_path / "short")


# Penn Treebank and WikiText


def test_both_forms_of_ptb_are_the_same_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = cases_language.splits(cases_language.PTB, 50)
    inside = {f"./simple-examples/data/{name}": content for name, content in files.items()}
    inside["./simple-examples/data/ptb.char.train.txt"] = b" t h e \n"
    forms = {"ptb": files, ptb.ARCHIVE: {"simple-examples.tgz": tarred(inside)}}
    found = []
    for name, contents in forms.items():
        root = tmp_path / f"only_{name}"
        (root / name).mkdir(parents=True)
        for file, content in contents.items():
            (root / name / file).write_bytes(content)
        with monkeypatch.context() as patched:
            cases_language.use(root, patched)
            task = TASKS["ptb"](length=33)
            assert task.data_sets == (name,)
            found.append((task.fingerprint(), task.examples("test", 0, torch.arange(9)).inputs))
    assert found[0][0] == found[1][0]
    assert torch.equal(found[0][1], found[1][1])


def test_a_folder_without_the_files_says_what_it_should_hold(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"has no ptb.train.txt, .*, nor any in simple-examples"):
        ptb.read(tmp_path, None)
    with pytest.raises(DataError, match=r"wikitext-2/wiki\.train\.tokens: No such file"):
        wikitext.read(tmp_path, "wikitext-2", None)


@pytest.mark.parametrize("bpe", [None, 1000])
def test_true_wikitext_has_the_published_words_and_every_byte(
    tmp_path: Path, bpe: int | None
) -> None:
    source, folder = real("wikitext2_valid_test"), tmp_path / "wikitext-2"
    folder.mkdir()
    val, test = ((source / f"wiki.{name}.tokens").read_bytes() for name in ("valid", "test"))
    for name, content in (("train", val + test), ("valid", val), ("test", test)):
        (folder / f"wiki.{name}.tokens").write_bytes(content)
    corpus = wikitext.read(tmp_path, "wikitext-2", bpe)
    assert corpus.words is not None
    assert corpus.bytes is not None
    for split, n_words, content in (("val", 217_646, val), ("test", 245_569, test)):
        counts = corpus.counts(split, corpus.n_tokens(split))  # type: ignore[arg-type]
        assert counts @ corpus.words.numpy() == n_words
        assert counts @ corpus.bytes.numpy() == len(content)
        assert (counts.sum() == n_words) == (bpe is None)


@pytest.mark.slow
@pytest.mark.parametrize("name", PUBLISHED)
def test_the_true_sets_have_the_published_vocabularies(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SEQBENCH_DATA")
    if status(name) == "no":
        pytest.skip(f"{name} is not on this machine: bench data fetch {name}")
    assert TASKS[name](length=64).n_outputs == PUBLISHED[name]


def test_true_shakespeare_has_65_characters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEQBENCH_DATA", str(tmp_path))
    (tmp_path / "shakespeare").mkdir()
    shutil.copy(real("tinyshakespeare") / "input.txt", tmp_path / "shakespeare")
    corpus = tiny_shakespeare.read(set_folder("shakespeare"))  # its checksum is compared
    assert corpus.n_symbols == 65
    assert [corpus.n_tokens(split) for split in SPLITS] == [1_003_854 - 1, 55_770, 55_770]
    assert (corpus.counts("train", corpus.n_tokens("train")) > 0).all()


def test_true_wikipedia_is_read_as_bytes(tmp_path: Path) -> None:
    (archive,) = real("enwiki_shortened_gensim").glob("*.bz2")
    text = bz2.decompress(archive.read_bytes())
    (tmp_path / "enwik8").write_bytes(text)
    corpus = mahoney.read_enwik8(tmp_path)
    assert corpus.n_tokens("test") == round(len(text) * 0.05)
    assert bytes(tokens(corpus, "test"))[1:] == text[-corpus.n_tokens("test") :]
    counts = sum(corpus.counts(split, corpus.n_tokens(split)) for split in SPLITS)
    assert np.count_nonzero(counts) == 201
