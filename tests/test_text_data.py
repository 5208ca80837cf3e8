"""Texts as numbers: what the readers make of files, and what they keep in the cache folder."""

from __future__ import annotations

import bz2
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from tasks import TASKS
from tasks.data import encoded as encoded_module
from tasks.data import mahoney, ptb, text_files, tiny_shakespeare, wikitext, words
from tasks.data.cache import set_folder, status
from tasks.data.corpus import Corpus, read_bytes, read_characters
from tasks.data.errors import DataError
from tasks.task import SPLITS, Split
from tasks.text_file import TextFile
from tests import cases_language

ROOT = Path(__file__).resolve().parents[1]
PUBLISHED = {"ptb": 10_000, "wikitext2": 33_278, "wikitext103": 267_735}
"""Symbols, <unk> and <eos> among them."""


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEQBENCH_DATA", str(tmp_path / "cache"))


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
    forms = {"ptb": files, ptb.ARCHIVE: {"simple-examples.tgz": cases_language.tarred(inside)}}
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


# One's own file


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A file of 360 characters in 400 bytes: 40 lines of two words."""
    path = tmp_path / "own.txt"
    path.write_text("".join(f"wörd n{number % 3:02}\n" for number in range(40)), encoding="utf-8")
    return path


def test_ones_own_file_is_read_in_each_unit(own: Path) -> None:
    text = own.read_text(encoding="utf-8")
    raw = text.encode()
    corpus = TextFile(path=str(own)).corpus()
    assert bytes(tokens(corpus, "val") + tokens(corpus, "test")[1:]) == raw[359:]

    corpus = TextFile(path=str(own), unit="chars").corpus()
    alphabet = "\ufffd" + "".join(sorted(set(text[:324])))
    assert "".join(alphabet[token] for token in tokens(corpus, "train")) == text[:324]
    assert "".join(alphabet[token] for token in tokens(corpus, "test")) == text[-19:]
    assert corpus.n_symbols == len(alphabet) == 11

    corpus = TextFile(path=str(own), unit="words").corpus()
    assert corpus.n_symbols == 2 + 4
    assert [corpus.n_tokens(split) for split in SPLITS] == [121 - 12 - 1, 6, 6]
    assert tokens(corpus, "train")[:4] == [1, 2, 3, 1]
    assert [m.name for m in TextFile(path=str(own), unit="words").metrics] == ["perplexity"]


def test_rare_words_and_characters_of_ones_own_are_one_symbol(tmp_path: Path) -> None:
    path = tmp_path / "own.txt"
    path.write_text("a b \n" * 30 + "once é \n" + "a b \n" * 10 + "new \n" * 4)
    task = TextFile(path=str(path), unit="words", min_count=2)
    assert task.n_outputs == 4
    assert tokens(task.corpus(), "test")[-4:] == [0, 1, 0, 1]
    assert TextFile(path=str(path), unit="words").n_outputs == 6
    characters = TextFile(path=str(path), unit="chars", min_count=2)
    assert characters.n_outputs == 1 + len("\n ab")
    assert tokens(characters.corpus(), "test")[-5:] == [0, 0, 0, 2, 1]


def test_the_fingerprint_is_of_the_content_and_not_of_the_name(own: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.txt"
    shutil.copy(own, other)
    for unit in text_files.UNITS:
        first = TextFile(path=str(own), unit=unit)
        before = first.fingerprint()
        assert before == TextFile(path=str(other), unit=unit).fingerprint()
        with own.open("a") as file:
            file.write("more\n")
        assert first.fingerprint() != before  # it was read again
        shutil.copy(other, own)


def test_a_path_counts_from_the_current_folder_or_from_home(
    own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    found = {TextFile(path=path).fingerprint() for path in (str(own), "own.txt", "~/own.txt")}
    assert len(found) == 1


def test_a_file_that_is_not_there_is_named_with_the_nearest_one(own: Path) -> None:
    with pytest.raises(DataError, match=r"no file .*/onw\.txt; did you mean .*/own\.txt\?$"):
        TextFile(path=str(own.with_name("onw.txt"))).size("test")
    with pytest.raises(DataError, match=r"there is no folder .*nowhere$"):
        TextFile(path=str(own.parent / "nowhere" / "own.txt")).size("test")


def test_a_file_that_is_no_utf8_is_read_as_bytes_only(own: Path) -> None:
    own.write_bytes(b"\xff\xfe" * 100)
    assert TextFile(path=str(own)).size("test") == 1
    with pytest.raises(DataError, match="is not UTF-8, read it as bytes"):
        TextFile(path=str(own), unit="chars").size("test")
