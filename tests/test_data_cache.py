"""The cache of data sets: what is opened is what was verified, and archives reach nothing else."""

from __future__ import annotations

import ast
import gzip
import hashlib
import io
import lzma
import os
import pickle
import re
import shutil
import stat
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tasks.data import cache, stamp, unpack
from tasks.data.cache import MissingDataError, cache_folder, set_folder, status, verify
from tasks.data.errors import ChecksumError, DataError
from tasks.data.sets import DATA_SETS, DataFile, DataSet

NOBODY = 65534
TREE = {"a/one.txt": b"1" * 1000, "a/b/two.txt": b"22", "three": b""}


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def plain(content: bytes, **changes: object) -> DataFile:
    fields: dict[str, object] = {
        "name": "file one",
        "urls": ("https://example.org/f",),
        "bytes": len(content),
        "sha256": sha256(content),
    }
    return DataFile(**(fields | changes))  # type: ignore[arg-type]


def packed(content: bytes, name: str = "archive.gz", **changes: object) -> DataFile:
    return plain(content, name=name, unpack=True, **changes)


def tar(members: dict[str, bytes], mode: str = "w:gz", *extra: tarfile.TarInfo) -> bytes:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode=mode) as archive:  # type: ignore[call-overload]
        for name, content in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
        for entry in extra:
            archive.addfile(entry)
    return target.getvalue()


def zipped(members: dict[str, bytes], *links: str) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
        for name in links:
            entry = zipfile.ZipInfo(name)
            entry.external_attr = (stat.S_IFLNK | 0o777) << 16
            archive.writestr(entry, "/etc/passwd")
    return target.getvalue()


def special(kind: bytes, name: str = "a/bad", link: str = "/etc/passwd") -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname = kind, link
    return entry


Place = Callable[..., Path]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """Register a set of files and put their contents into its folder by hand."""
    root = tmp_path / "a cache, with blanks"
    monkeypatch.setenv("SEQBENCH_DATA", str(root))

    def put(*files: DataFile, **contents: bytes | None) -> Path:
        made = DataSet(title="A set", source="here", licence="free", files=files)
        monkeypatch.setitem(DATA_SETS, "a_set", made)
        folder = root / "a_set"
        for file in files:
            content = contents.get(file.name.partition(".")[0].replace(" ", "_"))
            if content is not None:
                folder.mkdir(parents=True, exist_ok=True)
                (folder / file.name).write_bytes(content)
        return folder

    return put


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


def below(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file() and path.name[0] != ".")
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


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
    content = tar(TREE)
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
    (inside / file.name).write_bytes(b"wrong")
    with pytest.raises(ChecksumError):
        set_folder("a_set")


# Archives


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(tar(TREE), id="gz"),
        pytest.param(tar(TREE, "w:bz2"), id="bz2"),
        pytest.param(tar(TREE, "w:xz"), id="xz"),
        pytest.param(tar(TREE, "w"), id="tar"),
        pytest.param(tar({f"./{name}": text for name, text in TREE.items()}), id="dots"),
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
    content = tar(TREE)
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
    content = tar(TREE)
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
    content = tar(TREE)
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

BOMB = b"\0" * 40 * 2**20
HOSTILE = {
    "tar above": (tar({"../bad": b""}), "outside"),
    "tar above, later": (tar({"a/../../bad": b""}), "outside"),
    "tar absolute": (tar({"/tmp/bad": b""}), "outside"),
    "tar backslash": (tar({"..\\bad": b""}), "outside"),
    "tar control sign": (tar({"a\nb": b""}), "outside"),
    "tar symlink": (tar({}, "w:gz", special(tarfile.SYMTYPE)), "neither"),
    "tar symlink within": (tar(TREE, "w:gz", special(tarfile.SYMTYPE, link="one.txt")), "neither"),
    "tar hard link": (tar({}, "w:gz", special(tarfile.LNKTYPE)), "neither"),
    "tar device": (tar({}, "w:gz", special(tarfile.CHRTYPE)), "neither"),
    "tar pipe": (tar({}, "w:gz", special(tarfile.FIFOTYPE)), "neither"),
    "tar bomb": (tar({"bomb": BOMB}), "unpacks to over"),
    "tar of zeros at its end": (gzip.compress(tar(TREE, "w") + BOMB), "unpacks to over"),
    "tar twice": (tar({"a": b"1", "./a": b"2"}), "a twice"),
    "tar file as folder": (tar({"a": b"1", "a/b": b"2"}), "file that is a folder|a twice"),
    "tar stamp": (tar({stamp.STAMP_NAME: b"{}"}), "needs for itself"),
    "tar of its own name": (tar({"archive.gz": b"x"}), "its own name"),
    "tar empty": (tar({}), "no files"),
    "tar truncated": (tar(TREE)[:-30], "cannot be unpacked"),
    "tar damaged": (tar(TREE)[:-8] + b"\0" * 8, "cannot be unpacked"),
    "no archive": (b"<html>not found</html>", "cannot be unpacked"),
    "gzip alone": (gzip.compress(b"text"), "cannot be unpacked"),
    "xz alone": (lzma.compress(b"text"), "cannot be unpacked"),
    "zip above": (zipped({"../bad": b""}), "outside"),
    "zip absolute": (zipped({"/tmp/bad": b""}), "outside"),
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
    assert not Path("/tmp/bad").exists()
    assert status("a_set") == "unchecked"


def test_a_million_empty_files_are_a_bomb_too(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unpack, "SLACK_BYTES", 0)
    content = tar({f"{n:099}": b"" for n in range(300)}, "w:xz")
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
    content = tar(TREE)
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
from bench.data_commands import _data_sets
sets = _data_sets()
from tasks.data.sets import DataFile, DataSet
file = DataFile(**{**json.loads(sys.argv[1]), "urls": ()})
sets["a_set"] = DataSet(title="A set", source="here", licence="none", files=(file,))
from tasks.data.cache import set_folder
cache = sys.modules["tasks.data.cache"]
original = cache.unpack
def watched(*arguments):
    print("unpacked")
    return original(*arguments)
cache.unpack = watched
print(sorted(path.name for path in set_folder("a_set").iterdir() if path.name[0] != "."))
"""


def test_of_many_readers_at_once_one_unpacks(place: Place) -> None:
    content = tar({f"a/{n}": bytes([n % 256]) * 10_000 for n in range(400)})
    place(packed(content), archive=content)
    described = f'{{"name": "archive.gz", "bytes": {len(content)}, "unpack": true, "sha256": null}}'
    readers = [
        subprocess.Popen([sys.executable, "-c", OPEN, described], stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    outputs = [reader.communicate(timeout=60)[0] for reader in readers]
    assert [reader.returncode for reader in readers] == [0] * 4
    assert sum("unpacked" in output for output in outputs) == 1
    assert all(output.endswith("['a', 'archive.gz']\n") for output in outputs)


# The table


@pytest.mark.parametrize("name", DATA_SETS)
def test_the_table_says_all_that_is_needed(name: str) -> None:
    data_set = DATA_SETS[name]
    assert re.fullmatch(r"[a-z][a-z0-9_]*", name)
    assert data_set.title
    assert data_set.source
    assert data_set.licence
    assert data_set.files or data_set.package
    assert all(file.urls for file in data_set.files) or data_set.note
    names = [file.name for file in data_set.files]
    assert len(set(names)) == len(names)
    for file in data_set.files:
        assert Path(file.name).name == file.name
        assert not file.name.startswith(".")
        assert all(re.match(r"https?://[a-z0-9.-]+/", url) for url in file.urls)
        assert len(set(file.urls)) == len(file.urls)
        assert file.sha256 is None or re.fullmatch(r"[0-9a-f]{64}", file.sha256)
        assert file.md5 is None or re.fullmatch(r"[0-9a-f]{32}", file.md5)
        assert file.bytes is None or file.bytes > 0
        for path, digest in file.members:
            assert file.unpack
            assert not path.startswith("/")
            assert re.fullmatch(r"[0-9a-f]{32}|[0-9a-f]{64}", digest)
        if any(url.startswith("http://") for url in file.urls):
            assert file.sha256 or file.members, "what comes unencrypted is known by its checksum"


REAL = {
    "bible_en_es": "bible_en_es/web_rv1909.tsv.xz",
    "cmudict": "cmudict/cmudict.dict",
    "ett": "ett_small/ETTh1.csv",
    "jsb": "jsb_chorales/*.json",
    "mnist": "mnist/*.gz",
    "shakespeare": "tinyshakespeare/input.txt",
    "ud_english_ewt": "ud_english_ewt/en_ewt-*.conllu.xz",
}


@pytest.mark.parametrize("name", REAL)
def test_the_table_knows_the_real_files(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = os.environ.get("SEQBENCH_TEST_DATA")
    if not source:
        pytest.skip("SEQBENCH_TEST_DATA names no folder with real data")
    found = sorted(Path(source).glob(REAL[name]))
    if not found:
        pytest.skip(f"there is no {Path(source) / REAL[name]}")
    monkeypatch.setenv("SEQBENCH_DATA", str(tmp_path))
    (tmp_path / name).mkdir()
    for path in found:
        if name == "ud_english_ewt":
            text = lzma.decompress(path.read_bytes())
            (tmp_path / name / path.stem).write_bytes(text)
        else:
            shutil.copy(path, tmp_path / name)
    assert set_folder(name) == tmp_path / name
    verify(name)
