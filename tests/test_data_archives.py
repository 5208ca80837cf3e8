"""Archives in the cache of data sets are unpacked beside themselves, and reach nothing else."""

from __future__ import annotations

import ast
import gzip
import hashlib
import lzma
import os
import shutil
import stat
import tarfile
import tempfile
from pathlib import Path

import pytest

from tasks.data import cache, stamp, unpack
from tasks.data.cache import MissingDataError, set_folder, status, verify
from tasks.data.errors import ChecksumError, DataError
from tests.archives import TREE, special, tarred, zipped
from tests.cached_files import Place, packed, sha256


def below(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file() and path.name[0] != ".")
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


# Archives


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(tarred(TREE), id="gz"),
        pytest.param(tarred(TREE, "w:bz2"), id="bz2"),
        pytest.param(tarred(TREE, "w:xz"), id="xz"),
        pytest.param(tarred(TREE, "w"), id="tar"),
        pytest.param(tarred({f"./{name}": text for name, text in TREE.items()}), id="dots"),
        pytest.param(zipped(TREE), id="zip"),
    ],
)
def test_an_archive_is_unpacked_beside_itself(content: bytes, place: Place) -> None:
    folder = place(packed(content), archive=content)
    assert set_folder("a_set") == folder
    assert below(folder) == {**TREE, "archive.gz": content}
    assert not list(folder.glob(f"{unpack.STAGING_PREFIX}*"))
    verify("a_set")
    modes = {stat.S_IMODE(path.stat().st_mode) & 0o755 for path in folder.rglob("*.txt")}
    assert modes == {0o644}


def test_what_was_unpacked_is_kept_and_mended(place: Place) -> None:
    content = tarred(TREE)
    folder = place(packed(content), archive=content)
    set_folder("a_set")
    inode = (folder / "a" / "one.txt").stat().st_ino
    set_folder("a_set")
    os.utime(folder / "archive.gz", ns=(0, 0))
    set_folder("a_set")
    assert (folder / "a" / "one.txt").stat().st_ino == inode
    (folder / "a" / "one.txt").write_bytes(b"changed")
    set_folder("a_set")
    assert below(folder) == {**TREE, "archive.gz": content}
    shutil.rmtree(folder / "a")
    set_folder("a_set")
    assert below(folder) == {**TREE, "archive.gz": content}


def test_an_unpacked_archive_may_be_deleted(place: Place) -> None:
    content = tarred(TREE)
    folder = place(packed(content), archive=content)
    set_folder("a_set")
    (folder / "archive.gz").unlink()
    assert set_folder("a_set") == folder
    verify("a_set")
    os.utime(folder / "three", ns=(0, 0))
    assert status("a_set") == "unchecked"
    assert set_folder("a_set") == folder
    assert status("a_set") == "cache"
    (folder / "three").write_bytes(b"changed")
    with pytest.raises(DataError, match="are not what they were"):
        set_folder("a_set")
    (folder / "three").unlink()
    with pytest.raises(MissingDataError):
        set_folder("a_set")


def test_published_contents_are_checked_and_are_enough(place: Place) -> None:
    text = b"the text"
    right = (("text", hashlib.md5(text).hexdigest()),)
    content = zipped({"text": text})
    folder = place(packed(content, sha256=None, members=right), archive=content)
    set_folder("a_set")
    assert (folder / "text").read_bytes() == text
    shutil.rmtree(folder)
    place(packed(content, sha256=None, members=(("text", "0" * 64),)), archive=content)
    with pytest.raises(ChecksumError, match=f"sha256 {sha256(text)}, not 000"):
        set_folder("a_set")
    assert not (folder / "text").exists()
    place(packed(content, sha256=None, members=(("other", "0" * 64),)), archive=content)
    with pytest.raises(DataError, match="holds no other"):
        set_folder("a_set")
    shutil.rmtree(folder)
    place(packed(content, sha256=None, members=right))
    folder.mkdir()
    (folder / "text").write_bytes(text)
    assert status("a_set") == "unchecked"
    assert set_folder("a_set") == folder
    assert status("a_set") == "cache"
    (folder / "text").write_bytes(b"another")
    with pytest.raises(DataError):
        set_folder("a_set")


def test_of_many_files_only_the_number_is_stamped(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stamp, "MAX_LISTED", 2)
    content = tarred(TREE)
    folder = place(packed(content), archive=content)
    set_folder("a_set")
    found = stamp.read_stamp(folder)
    assert found is not None
    tree = found.trees["archive.gz"]
    assert (tree.n_files, tree.bytes, tree.top, tree.listed) == (3, 1002, ("a", "three"), {})
    (folder / "a" / "one.txt").write_bytes(b"2" * 1000)
    assert set_folder("a_set") == folder
    with pytest.raises(DataError, match="are not what they were"):
        verify("a_set")


# Hostile archives

OUTSIDE = Path(tempfile.gettempdir()) / f"seqbench-{os.getpid()}" / "bad"
BOMB = b"\0" * 40 * 2**20
HOSTILE = {
    "tar above": (tarred({"../bad": b""}), "outside"),
    "tar above, later": (tarred({"a/../../bad": b""}), "outside"),
    "tar absolute": (tarred({str(OUTSIDE): b""}), "outside"),
    "tar backslash": (tarred({"..\\bad": b""}), "outside"),
    "tar control sign": (tarred({"a\nb": b""}), "outside"),
    "tar symlink": (tarred({}, "w:gz", special(tarfile.SYMTYPE)), "neither"),
    "tar symlink within": (
        tarred(TREE, "w:gz", special(tarfile.SYMTYPE, link="one.txt")),
        "neither",
    ),
    "tar hard link": (tarred({}, "w:gz", special(tarfile.LNKTYPE)), "neither"),
    "tar device": (tarred({}, "w:gz", special(tarfile.CHRTYPE)), "neither"),
    "tar pipe": (tarred({}, "w:gz", special(tarfile.FIFOTYPE)), "neither"),
    "tar bomb": (tarred({"bomb": BOMB}), "unpacks to over"),
    "tar of zeros at its end": (gzip.compress(tarred(TREE, "w") + BOMB), "unpacks to over"),
    "tar twice": (tarred({"a": b"1", "./a": b"2"}), "a twice"),
    "tar file as folder": (tarred({"a": b"1", "a/b": b"2"}), "file that is a folder|a twice"),
    "tar stamp": (tarred({stamp.STAMP_NAME: b"{}"}), "needs for itself"),
    "tar of its own name": (tarred({"archive.gz": b"x"}), "its own name"),
    "tar empty": (tarred({}), "no files"),
    "tar truncated": (tarred(TREE)[:-30], "cannot be unpacked"),
    "tar damaged": (tarred(TREE)[:-8] + b"\0" * 8, "cannot be unpacked"),
    "no archive": (b"<html>not found</html>", "cannot be unpacked"),
    "gzip alone": (gzip.compress(b"text"), "cannot be unpacked"),
    "xz alone": (lzma.compress(b"text"), "cannot be unpacked"),
    "zip above": (zipped({"../bad": b""}), "outside"),
    "zip absolute": (zipped({str(OUTSIDE): b""}), "outside"),
    "zip symlink": (zipped({}, "link"), "neither"),
    "zip bomb": (zipped({"bomb": BOMB}), "unpacks to over"),
    "zip truncated": (zipped(TREE)[:-30], "cannot be unpacked"),
    "zip damaged": (zipped(TREE).replace(b"a/one.txt", b"a/two.txt", 1), "cannot be unpacked"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_archive_leaves_nothing(case: str, place: Place, tmp_path: Path) -> None:
    content, reason = HOSTILE[case]
    folder = place(packed(content), archive=content)
    with pytest.raises(DataError, match=reason):
        set_folder("a_set")
    assert below(tmp_path) == {"a cache, with blanks/a_set/archive.gz": content}
    assert {path.name for path in folder.iterdir()} == {"archive.gz", stamp.LOCK_NAME}
    assert not OUTSIDE.exists()
    assert status("a_set") == "unchecked"


def test_a_million_empty_files_are_a_bomb_too(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unpack, "SLACK_BYTES", 0)
    content = tarred({f"{n:099}": b"" for n in range(300)}, "w:xz")
    folder = place(packed(content), archive=content)
    with pytest.raises(DataError, match="unpacks to over"):
        set_folder("a_set")
    assert below(folder) == {"archive.gz": content}


def test_no_pickle_is_ever_loaded() -> None:
    """A pickle runs whatever its author wrote."""
    for path in Path(cache.__file__).parents[1].rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = [alias.name for alias in node.names] + [getattr(node, "module", "") or ""]
                assert not {"pickle", "cPickle", "dill", "joblib", "shelve"} & set(names), path
            if isinstance(node, ast.keyword) and node.arg == "allow_pickle":
                assert isinstance(node.value, ast.Constant), path
                assert node.value.value is False, path
