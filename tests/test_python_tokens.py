"""Token classes of Python source are those of `tokenize`, byte for byte."""

from __future__ import annotations

import io
import keyword
import sys
import sysconfig
import tokenize
from pathlib import Path

import numpy as np
import pytest
import torch

from tasks.data import standard_library, token_classes
from tasks.data.standard_library import Piece
from tasks.data.token_classes import CLASSES, NONE, ClassedText, classes_of
from tasks.python_tokens import PythonTokens
from tasks.task import UNSCORED, MissingPackageError

LETTERS = dict(zip(CLASSES, " >n#s0kaO", strict=True))
"""How a class is drawn below."""

DRAWN = [
    ("if x:\n", "kk aOn"),
    ("if x:\n    y = 1  # hi\n    z\n", "kk aOn>>>>a O 0  ####n    an"),
    ("a = 'é' + b\n", "a O ssss O an"),  # the letter has two bytes
    ('"""a\nb"""\nmatch = 0x1F', "ssss" + "s" * 5 + "n" + "aaaaa O 0000"),
    ("x = 1 + \\\n  2\n", "a O 0 O     0n"),
    ("\n# c\n\n", "n###nn"),
    ("not_a_keyword.not_(a)", "a" * 13 + "O" + "aaaa" + "OaO"),
]


def drawn(content: bytes) -> str:
    return "".join(LETTERS[CLASSES[number]] for number in classes_of(content))


@pytest.mark.parametrize(("source", "expected"), DRAWN)
def test_classes_by_hand(source: str, expected: str) -> None:
    assert drawn(source.encode()) == expected


def test_other_encodings_and_marks_of_them_shift_nothing() -> None:
    source = "# -*- coding: latin-1 -*-\nx = 'é'\n"
    assert drawn(source.encode("latin-1")).endswith("na O sssn")
    assert drawn(b"\xef\xbb\xbfif x:\n") == "   kk aOn"
    assert drawn(b"if x:\r\n    y\r\n") == "kk aOnn>>>>ann"


@pytest.mark.skipif(sys.version_info < (3, 12), reason="an f-string is one token up to 3.11")
def test_the_expressions_of_an_f_string_are_tokens() -> None:
    assert drawn(b"f'a{b}'") == "sssOaOs"


@pytest.mark.parametrize("path", ["json/decoder.py", "enum.py", "tokenize.py"])
def test_every_class_is_what_tokenize_says_of_whole_files(path: str) -> None:
    """Put together again from the tokens' own strings, not from their places."""
    content = standard_library.content_of(path)
    found = classes_of(content)
    spelled = [
        token.string
        for token in tokenize.tokenize(io.BytesIO(content).readline)
        if token.type == tokenize.NAME and keyword.iskeyword(token.string)
    ]
    number = CLASSES.index("keyword")
    assert bytes(content[i] for i in np.flatnonzero(found == number)).decode() == "".join(spelled)
    comments = [line for line in content.split(b"\n") if line.lstrip().startswith(b"#")]
    assert comments
    for line in comments:
        start = content.index(line) + len(line) - len(line.lstrip())
        if CLASSES[found[start]] != "string":
            assert {CLASSES[n] for n in found[start : content.index(line) + len(line)]} == {
                "comment"
            }


def test_a_file_that_tokenize_refuses_has_no_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    files = {"good": b"if x:\n  y\n", "bad": b"x = '''\n", "worse": b"\xff\xff\n"}
    monkeypatch.setattr(standard_library, "content_of", files.__getitem__)
    text = ClassedText([Piece(name, 0, content) for name, content in files.items()])
    found = text.classes(torch.tensor([0]), len(text.text))[0].tolist()
    n_good = len(files["good"])
    assert found[:n_good] == classes_of(files["good"]).tolist()
    assert set(found[n_good:]) == {NONE}


def test_pieces_of_one_file_have_the_classes_of_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    content = b'x = """a if b"""\nif y: z\n'
    monkeypatch.setattr(standard_library, "content_of", lambda _: content)
    text = ClassedText([Piece("f", 8, content[8:20]), Piece("f", 0, content[:8])])
    found = text.classes(torch.tensor([0, 12]), 8)
    whole = classes_of(content)
    assert found[0].tolist() == whole[8:16].tolist()
    assert found[1].tolist() == whole[:8].tolist()


def test_classes_are_kept_once_all_are_known(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    files = {"a": b"if x:\n  y\n", "b": b"z = 1\n"}
    pieces = [Piece(name, 0, content) for name, content in files.items()]
    monkeypatch.setattr(standard_library, "content_of", files.__getitem__)
    kept = tmp_path / "deep" / "classes.npy"
    text = ClassedText(pieces, kept)
    text.classes(torch.tensor([0]), 5)
    assert not kept.exists()
    text.complete()
    assert [file.name for file in kept.parent.iterdir()] == ["classes.npy"]
    expected = text.classes(torch.tensor([0]), 16)

    def refuse(_: str) -> bytes:
        raise AssertionError("tokenised again")

    monkeypatch.setattr(standard_library, "content_of", refuse)
    assert torch.equal(ClassedText(pieces, kept).classes(torch.tensor([0]), 16), expected)
    monkeypatch.setattr(standard_library, "content_of", files.__getitem__)
    for broken in (b"", b"no numpy file"):
        kept.write_bytes(broken)
        assert torch.equal(ClassedText(pieces, kept).classes(torch.tensor([0]), 16), expected)
    (tmp_path / "file").write_text("")
    unwritable = ClassedText(pieces, tmp_path / "file" / "classes.npy")
    unwritable.complete()
    assert torch.equal(unwritable.classes(torch.tensor([0]), 16), expected)


@pytest.mark.parametrize("length", [999, 4096])
def test_every_length_scores_the_same_bytes_once(length: int) -> None:
    task = PythonTokens(length=length, n_eval_bytes=20000)
    batch = task.examples("test", 0, torch.arange(task.size("test")))
    text = standard_library.read("python_bytes")["test"][:20000].tolist()
    scored = batch.targets != UNSCORED
    assert batch.inputs[scored].tolist() == text
    whole = PythonTokens(length=20000, n_eval_bytes=20000).examples("test", 0, torch.tensor([0]))
    assert batch.targets[scored].tolist() == whole.targets[0].tolist()
    shares = whole.targets[0].bincount(minlength=len(CLASSES)) / 20000
    assert shares.min() > 0
    assert shares.max() < 0.6


def test_training_windows_start_anywhere() -> None:
    task = PythonTokens(length=50)
    batch = task.examples("train", 0, torch.arange(40))
    train = standard_library.read("python_bytes")["train"].numpy().tobytes()
    begins = [train.index(bytes(row)) for row in batch.inputs.tolist()]
    assert len({begin % 50 for begin in begins}) > 15
    assert max(begins) > 3 * min(begins)


def test_more_evaluation_bytes_than_there_are_raise() -> None:
    with pytest.raises(ValueError, match=r"n_eval_bytes must be at most the \d+ bytes of test"):
        PythonTokens(n_eval_bytes=10**9).examples("test", 0, torch.arange(1))
    with pytest.raises(ValueError, match="length must be at most n_eval_bytes = 65536, not 70000"):
        PythonTokens(length=70000)


def test_the_fingerprint_says_whose_tokenize_it_was() -> None:
    version = ".".join(map(str, sys.version_info[:2]))
    assert PythonTokens().fingerprint().endswith(f" tokenize-{version}-v1")


def test_a_python_without_sources_is_a_missing_package(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert Path(sysconfig.get_path("stdlib")) == standard_library._root()
    monkeypatch.setattr(standard_library, "_root", lambda: tmp_path)
    monkeypatch.setattr(standard_library, "read", standard_library.read.__wrapped__)
    monkeypatch.setattr(standard_library, "sha256", standard_library.sha256.__wrapped__)
    with pytest.raises(MissingPackageError, match="task 'python_tokens' needs the sources"):
        token_classes.read.__wrapped__("python_tokens")
