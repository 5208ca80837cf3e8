"""A text of one's own: read in each unit, known by its content."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tasks.data import text_files
from tasks.data.errors import DataError
from tasks.task import SPLITS
from tasks.text_file import TextFile
from tests.read_texts import tokens

pytestmark = pytest.mark.usefixtures("empty_cache")


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
