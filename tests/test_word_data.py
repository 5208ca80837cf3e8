"""Texts as numbers of words and of their pieces: what is read, and what the cache folder keeps."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tasks.data import encoded as encoded_module
from tasks.data import words
from tasks.data.corpus import Corpus
from tasks.data.errors import DataError
from tasks.task import SPLITS, Split
from tests import cases_language
from tests.read_texts import symbols_of, tokens, word_files

pytestmark = pytest.mark.usefixtures("empty_cache")
ROOT = Path(__file__).resolve().parents[1]


# Words


def test_words_are_numbered_by_frequency_and_every_line_ends(tmp_path: Path) -> None:
    train = " the cat \n \n the <unk> dog \n the dog \n"
    files = word_files(tmp_path / "in", train, " the bird \n", "cat")
    corpus = words.read_words(files, "pets", None)
    #  <unk> 0, <eos> 1, the 2, dog 3, cat 4
    assert symbols_of(tmp_path / "cache", "pets") == ["<unk>", "<eos>", "the", "dog", "cat"]
    assert tokens(corpus, "train") == [1, 2, 4, 1, 1, 2, 0, 3, 1, 2, 3, 1]
    assert tokens(corpus, "val") == [1, 2, 0, 1]  # train knows no bird
    assert tokens(corpus, "test") == [1, 4, 1]  # a last line without its end is a line
    assert corpus.words is not None
    assert corpus.bytes is not None
    assert corpus.words.tolist() == [1, 1, 1, 1, 1]
    assert corpus.bytes.tolist() == [6, 2, 4, 4, 4]
    assert int(corpus.bytes[tokens(corpus, "train")[1:]].sum()) == len(train)


def test_a_word_of_val_or_test_alone_is_in_no_vocabulary(tmp_path: Path) -> None:
    plain = words.read_words(word_files(tmp_path / "in", " a b \n"), "one", None)
    other = words.read_words(word_files(tmp_path / "in2", " a b \n", " c d e \n"), "two", None)
    assert plain.n_symbols == other.n_symbols == 4
    assert plain.sha256 != other.sha256


PETS = " the catapult and the catalogue of the cat \n the caterpillar é <unk>cat \n"


def spelt(corpus: Corpus, split: Split, symbols: list[str]) -> str:
    """The text of pieces, in the byte-level look."""
    return "".join(symbols[token] for token in tokens(corpus, split)[1:])


@pytest.mark.parametrize("bpe", [258, 261, 265])
def test_pieces_spell_the_words_and_stay_within_them(tmp_path: Path, bpe: int) -> None:
    files = word_files(tmp_path / "in", PETS, " the cattle \n", " <unk> é \n")
    corpus = words.read_words(files, "pets", bpe)
    symbols = symbols_of(tmp_path / "cache", "pets")
    assert corpus.n_symbols == len(symbols) == len(set(symbols)) == bpe
    assert spelt(corpus, "train", symbols) == (
        "ĠtheĠcatapultĠandĠtheĠcatalogueĠofĠtheĠcat<eos>ĠtheĠcaterpillarĠÃ©Ġ<unk>cat<eos>"
    )
    assert spelt(corpus, "val", symbols) == "ĠtheĠcattle<eos>"
    assert spelt(corpus, "test", symbols) == "<unk>ĠÃ©<eos>"
    assert not any("Ġ" in symbol[1:] for symbol in symbols)
    counts = {split: corpus.counts(split, corpus.n_tokens(split)) for split in SPLITS}
    assert corpus.words is not None
    assert corpus.bytes is not None
    n_words = {split: int(counts[split] @ corpus.words.numpy()) for split in SPLITS}
    n_bytes = {split: int(counts[split] @ corpus.bytes.numpy()) for split in SPLITS}
    assert n_words == {"train": 14, "val": 3, "test": 3}
    assert n_bytes == {split: files[split].stat().st_size for split in SPLITS}


def test_pieces_are_learned_on_train_alone(tmp_path: Path) -> None:
    for name, val in (("one", " a \n"), ("two", " zebra zebra zebra zebra \n")):
        words.read_words(word_files(tmp_path / name, PETS, val), name, 264)
    one, two = (symbols_of(tmp_path / "cache", name) for name in ("one", "two"))
    assert one == two
    assert "Ġthe" in one


def test_more_pieces_than_the_text_has_raise(tmp_path: Path) -> None:
    files = word_files(tmp_path / "in", PETS)
    with pytest.raises(DataError, match=r"has pieces for \d+ symbols: bpe must be at most that"):
        words.read_words(files, "pets", 5000)
    assert not list((tmp_path / "cache" / "encoded").glob("*/done"))


def test_pieces_are_the_same_in_every_process(tmp_path: Path) -> None:
    train = cases_language.lines(3000, 5).decode() + PETS
    word_files(tmp_path / "in", train)
    code = (
        "import sys; from pathlib import Path; from tasks.data import words;"
        f"files = {{s: Path({str(tmp_path / 'in')!r}) / f'{{s}}.txt'"
        " for s in ('train', 'val', 'test')};"
        "print(words.read_words(files, 'pets', 350).sha256)"
    )
    found = set()
    for seed in ("1", "2"):
        environment = {
            **os.environ,
            "SEQBENCH_DATA": str(tmp_path / seed),
            "PYTHONHASHSEED": seed,
            "PYTHONPATH": str(ROOT),
        }
        done = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        found.add(done.stdout)
    assert len(found) == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b" fine \n \xff bad \n", r"train\.txt, line 2: .*can't decode byte 0xff"),
        (b"", r"train\.txt is empty"),
    ],
)
def test_broken_files_of_words_are_named(tmp_path: Path, content: bytes, message: str) -> None:
    files = word_files(tmp_path / "in", "")
    files["train"].write_bytes(content)
    with pytest.raises(DataError, match=message):
        words.read_words(files, "pets", None)
    files["test"].unlink()
    with pytest.raises(DataError, match=r"test\.txt: No such file"):
        words.read_words(files, "pets", None)


# Kept in the cache folder


def test_a_text_is_numbered_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = word_files(tmp_path / "in", PETS)
    first = words.read_words(files, "pets", None)
    assert words.read_words(files, "pets", 260).n_symbols == 260  # other settings

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("numbered again")

    with monkeypatch.context() as patched:
        patched.setattr(words, "_as_words", refuse)
        again = words.read_words(files, "pets", None)
        assert again.sha256 == first.sha256
        assert isinstance(again.streams["train"], np.memmap)
        assert tokens(again, "train") == tokens(first, "train")
        files["val"].write_text(" another \n")  # other content
        with pytest.raises(AssertionError, match="numbered again"):
            words.read_words(files, "pets", None)


def test_a_cache_that_cannot_be_written_is_done_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = words.read_words(word_files(tmp_path / "in", PETS), "pets", 260)
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("SEQBENCH_DATA", str(tmp_path / "file"))
    found = words.read_words(word_files(tmp_path / "in", PETS), "pets", 260)
    assert found.sha256 == expected.sha256
    assert tokens(found, "train") == tokens(expected, "train")


def test_a_process_that_dies_leaves_nothing_half_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = word_files(tmp_path / "in", PETS)

    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(encoded_module.json, "dump", fail)
        with pytest.raises(OSError, match="No space left"):
            words.read_words(files, "pets", None)
    (folder,) = (tmp_path / "cache" / "encoded").iterdir()
    assert {entry.name for entry in folder.iterdir()} == {".lock"}
    words.read_words(files, "pets", None)
    (folder / "done" / "val.npy").write_bytes(b"")
    with pytest.raises(DataError, match=r"done is broken, remove it"):
        words.read_words(files, "pets", None)
