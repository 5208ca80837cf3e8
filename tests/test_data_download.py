"""Downloads against a server on the loopback: whole and right, or an error and nothing."""

from __future__ import annotations

import errno
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tasks.data import download as module
from tasks.data.cache import MissingDataError, set_folder
from tasks.data.data_set import DataFile, DataSet
from tasks.data.download import download
from tasks.data.errors import DataError
from tasks.data.fetch import fetch
from tasks.data.sets import DATA_SETS
from tests import loopback
from tests.cached_files import sha256
from tests.loopback import Site, cut, drip, ranged, redirect, stall, status, whole

CONTENT = random.Random(0).randbytes(300_001)
OTHER = random.Random(1).randbytes(300_001)
PATIENCE_S = 20
"""Far more than any of these downloads takes; far less than a test run may hang."""


def known(*urls: str, content: bytes = CONTENT) -> DataFile:
    return DataFile(name="a file.bin", urls=urls, bytes=len(content), sha256=sha256(content))


def unknown(*urls: str) -> DataFile:
    return DataFile(name="a file.bin", urls=urls, bytes=None, sha256=None)


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(module, "TIMEOUT_S", PATIENCE_S)
    monkeypatch.setattr(module, "PAUSE_S", 0.01)
    with loopback.site() as server:
        yield server


@pytest.fixture
def target(tmp_path: Path) -> Path:
    folder = tmp_path / "a cache, with blanks"
    folder.mkdir()
    return folder / "a file.bin"


def leftovers(target: Path) -> set[str]:
    return {path.name for path in target.parent.iterdir()}


def register(monkeypatch: pytest.MonkeyPatch, cache: Path, *files: DataFile) -> None:
    monkeypatch.setenv("SEQBENCH_DATA", str(cache))
    made = DataSet(title="A set", source="here", licence="none", files=files)
    monkeypatch.setitem(DATA_SETS, "a_set", made)


# The right file


def test_a_file_appears_whole_and_progress_is_told(site: Site, target: Path) -> None:
    told: list[tuple[str, int, int | None]] = []
    url = site.put("/f", whole(CONTENT))
    download(known(url), target, lambda *call: told.append(call))
    assert target.read_bytes() == CONTENT
    assert leftovers(target) == {target.name}
    had = [call[1] for call in told]
    assert had == sorted(had)
    assert told[0] == (target.name, 0, len(CONTENT))
    assert told[-1] == (target.name, len(CONTENT), len(CONTENT))


def test_a_file_of_unknown_size_and_checksum_is_taken_as_it_comes(site: Site, target: Path) -> None:
    download(unknown(site.put("/f", whole(CONTENT))), target)
    assert target.read_bytes() == CONTENT


def test_redirects_within_the_web_are_followed(site: Site, target: Path) -> None:
    site.put("/2", redirect(site.url("/3")))
    site.put("/3", whole(CONTENT))
    download(known(site.put("/1", redirect("/2"))), target)
    assert target.read_bytes() == CONTENT


@pytest.mark.parametrize(
    "first",
    [
        pytest.param(status(404), id="missing"),
        pytest.param(status(500), id="broken"),
        pytest.param(whole(OTHER), id="another file"),
        pytest.param(whole(CONTENT[:-1]), id="a shorter file"),
        pytest.param(cut(CONTENT, 1000), id="truncated"),
    ],
)
def test_the_next_address_is_tried(first: loopback.Reply, site: Site, target: Path) -> None:
    download(known(site.put("/1", first), site.put("/2", ranged(CONTENT))), target)
    assert target.read_bytes() == CONTENT
    assert leftovers(target) == {target.name}


# Resuming


@pytest.mark.parametrize("describe", [known, unknown])
def test_an_interrupted_download_goes_on_where_it_stopped(
    describe: Callable[[str], DataFile], site: Site, target: Path
) -> None:
    url = site.put("/f", cut(CONTENT, 200_000, '"1"'), ranged(CONTENT, '"1"'))
    download(describe(url), target)
    assert target.read_bytes() == CONTENT
    (_, first), (_, second) = site.requests
    assert "Range" not in first
    assert (second["Range"], second["If-Range"]) == ("bytes=200000-", '"1"')


@pytest.mark.parametrize("describe", [known, unknown])
def test_a_server_that_ignores_ranges_is_read_from_the_beginning(
    describe: Callable[[str], DataFile], site: Site, target: Path
) -> None:
    url = site.put("/f", cut(CONTENT, 200_000, '"1"'), whole(CONTENT))
    download(describe(url), target)
    assert target.read_bytes() == CONTENT


def test_a_file_that_changed_meanwhile_is_not_glued_to_the_old_one(
    site: Site, target: Path
) -> None:
    url = site.put("/f", cut(OTHER, 200_000, '"1"'), ranged(CONTENT, '"2"'))
    download(unknown(url), target)
    assert target.read_bytes() == CONTENT


def test_without_checksum_and_validator_nothing_is_resumed(site: Site, target: Path) -> None:
    url = site.put("/f", cut(OTHER, 200_000), ranged(CONTENT))
    download(unknown(url), target)
    assert target.read_bytes() == CONTENT
    assert "Range" not in site.requests[1][1]


def test_a_wrong_beginning_is_thrown_away_once(site: Site, target: Path) -> None:
    part = target.with_name(f"{target.name}.part")
    part.write_bytes(OTHER[:1000])
    download(known(site.put("/f", ranged(CONTENT))), target)
    assert target.read_bytes() == CONTENT
    assert [headers.get("Range") for _, headers in site.requests] == ["bytes=1000-", None]


def test_a_part_that_is_whole_needs_no_request(site: Site, target: Path) -> None:
    target.with_name(f"{target.name}.part").write_bytes(CONTENT)
    download(known(site.url("/nothing")), target)
    assert target.read_bytes() == CONTENT
    assert not site.requests


def test_a_server_that_sends_another_range_is_refused(site: Site, target: Path) -> None:
    def another(handler: loopback.Handler) -> None:
        loopback.head(handler, 206, 5, Content_Range=f"bytes 0-4/{len(CONTENT)}")
        handler.wfile.write(CONTENT[:5])

    target.with_name(f"{target.name}.part").write_bytes(CONTENT[:1000])
    with pytest.raises(DataError, match="another range"):
        download(known(site.put("/f", another)), target)


# Nothing that is not the file


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        pytest.param(status(404), "HTTP 404", id="missing"),
        pytest.param(status(503), r"HTTP 503 .*3 attempts", id="unavailable"),
        pytest.param(cut(CONTENT, 1000), "ended after 1000 of 300001 bytes", id="truncated"),
        pytest.param(
            whole(OTHER), f"sha256 {sha256(OTHER)}, not {sha256(CONTENT)}", id="another file"
        ),
        pytest.param(whole(CONTENT[:-1]), "has 300000 bytes, not 300001", id="shorter"),
        pytest.param(
            whole(CONTENT[:-1], length=False), "ended after 300000 of 300001", id="shorter, unsaid"
        ),
        pytest.param(whole(CONTENT + b"x"), "has 300002 bytes, not 300001", id="longer"),
        pytest.param(
            whole(CONTENT + b"x", length=False), "sends more than 300001", id="longer, unsaid"
        ),
        pytest.param(redirect("file:///etc/passwd"), r"file:///etc/passwd", id="to a file"),
        pytest.param(redirect("ftp://127.0.0.1/f"), r"redirects to ftp", id="to FTP"),
        pytest.param(redirect("/f"), "infinite loop", id="in a circle"),
    ],
)
def test_what_is_not_the_file_is_an_error_and_leaves_none(
    reply: loopback.Reply, reason: str, site: Site, target: Path
) -> None:
    url, begun = site.put("/f", reply), time.monotonic()
    with pytest.raises(DataError, match=reason) as caught:
        download(known(url), target)
    assert time.monotonic() - begun < PATIENCE_S
    assert "\n" not in str(caught.value)
    assert url in str(caught.value)
    assert not target.exists()


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        pytest.param(stall(CONTENT, 1000), "timed out", id="stalled"),
        pytest.param(drip(CONTENT, 0.05), r"sent \d+ bytes in", id="a byte at a time"),
    ],
)
def test_a_server_that_is_too_slow_is_given_up(
    reply: loopback.Reply,
    reason: str,
    site: Site,
    target: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "TIMEOUT_S", 0.3)
    begun = time.monotonic()
    with pytest.raises(DataError, match=reason):
        download(known(site.put("/f", reply)), target)
    assert time.monotonic() - begun < PATIENCE_S
    assert not target.exists()


def test_neither_length_nor_checksum_is_too_little(site: Site, target: Path) -> None:
    with pytest.raises(DataError, match="says no length"):
        download(unknown(site.put("/f", whole(CONTENT, length=False))), target)
    assert not target.exists()


def test_nothing_listens(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PAUSE_S", 0.01)
    with loopback.site() as gone:
        url = gone.url("/f")
    with pytest.raises(DataError, match=r"refused .*3 attempts"):
        download(known(url), target)


@pytest.mark.parametrize("address", ["file:///etc/hostname", "data:,x", "ftp://127.0.0.1/x"])
def test_only_the_web_is_read(address: str, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PAUSE_S", 0.01)
    with pytest.raises(DataError, match="unknown url type"):
        download(unknown(address), target)


# The disk


def test_a_disk_with_too_little_room_is_left_alone(
    site: Site, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(target.parent)
    monkeypatch.setattr(module.shutil, "disk_usage", lambda _: usage._replace(free=1000))
    with pytest.raises(DataError, match=r"has 1000 bytes free, and a file.bin needs \d+"):
        download(known(site.put("/f", whole(CONTENT))), target)
    assert not leftovers(target)


def test_a_disk_that_fills_up_is_an_error(site: Site, target: Path) -> None:
    """A limit on file sizes stands for the end of the disk: the kernel refuses the same write."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(DataError, match=f"cannot write .*{os.strerror(errno.EFBIG)}"):
            download(known(site.put("/f", whole(CONTENT)), site.url("/never")), target)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
    assert not target.exists()
    assert [path for path, _ in site.requests] == ["/f"]


# Whole sets, and several processes


FETCH = """
import json, sys
from bench.commands.data import _data_sets
sets = _data_sets()
from tasks.data.fetch import fetch
from tasks.data.data_set import DataFile, DataSet
files = tuple(DataFile(**{**f, "urls": tuple(f["urls"])}) for f in json.loads(sys.argv[1]))
sets["a_set"] = DataSet(title="A set", source="here", licence="none", files=files)
print(fetch("a_set"))
"""


def start_fetch(cache: Path, *files: DataFile) -> subprocess.Popen[str]:
    described = json.dumps(
        [{"name": f.name, "urls": f.urls, "bytes": f.bytes, "sha256": f.sha256} for f in files]
    )
    return subprocess.Popen(
        [sys.executable, "-c", FETCH, described],
        env={**os.environ, "SEQBENCH_DATA": str(cache), "no_proxy": "127.0.0.1"},
        stdout=subprocess.PIPE,
        text=True,
    )


def test_a_killed_fetch_leaves_nothing_that_is_taken_for_the_file(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = known(site.put("/f", stall(CONTENT, 200_000, '"1"'), ranged(CONTENT, '"1"')))
    register(monkeypatch, tmp_path, file)
    part = tmp_path / "a_set" / f"{file.name}.part"
    with start_fetch(tmp_path, file) as process:
        deadline = time.monotonic() + PATIENCE_S
        # The process writes in blocks of its own choice: any of them will do.
        while not (part.exists() and part.stat().st_size):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.kill()
    with pytest.raises(MissingDataError, match="bench data fetch a_set"):
        set_folder("a_set")
    assert (fetch("a_set") / file.name).read_bytes() == CONTENT
    assert site.requests[1][1]["Range"].startswith("bytes=")


def test_of_two_processes_one_downloads(site: Site, tmp_path: Path) -> None:
    def slowly(handler: loopback.Handler) -> None:
        time.sleep(0.5)
        whole(CONTENT)(handler)

    file = known(site.put("/f", slowly))
    processes = [start_fetch(tmp_path, file) for _ in range(3)]
    outputs = [process.communicate(timeout=PATIENCE_S)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0]
    assert outputs == [f"{tmp_path / 'a_set'}\n"] * 3
    assert len(site.requests) == 1
    assert (tmp_path / "a_set" / file.name).read_bytes() == CONTENT


def test_a_fetch_brings_only_what_is_missing(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = DataFile(name="here", urls=("http://x/",), bytes=1, sha256=sha256(b"1"))
    there = known(site.put("/f", whole(CONTENT)))
    register(monkeypatch, tmp_path, here, there)
    (tmp_path / "a_set").mkdir()
    (tmp_path / "a_set" / "here").write_bytes(b"1")
    folder = fetch("a_set")
    assert (folder / there.name).read_bytes() == CONTENT
    assert fetch("a_set") == folder
    assert len(site.requests) == 1


def test_a_wrong_file_put_there_by_hand_is_never_overwritten(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = known(site.put("/f", whole(CONTENT)))
    register(monkeypatch, tmp_path, file)
    (tmp_path / "a_set").mkdir()
    (tmp_path / "a_set" / file.name).write_bytes(OTHER)
    with pytest.raises(DataError, match=f"{sha256(OTHER)}, not {sha256(CONTENT)}: remove it, then"):
        fetch("a_set")
    assert (tmp_path / "a_set" / file.name).read_bytes() == OTHER
