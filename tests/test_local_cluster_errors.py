"""The cluster for trying out says in one line what it cannot do, and starts nothing."""

import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.local_cluster import SCRIPT, processes


def call(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(SCRIPT), *words],
        env=environment or None,
        capture_output=True,
        text=True,
        timeout=60,
    )


def refused(folder: Path, **environment: str) -> str:
    done = call("up", "--folder", str(folder), **environment)
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert processes(f"SLURM_CONF={folder}/slurm.node.conf") == []
    return done.stderr


def test_without_slurm_it_says_what_to_install():
    with tempfile.TemporaryDirectory() as short:  # a socket's path has to be
        folder = Path(short) / "cluster"
        assert "apt-get install slurm-wlm" in refused(folder, PATH=short)
        assert not folder.exists()


@pytest.mark.parametrize("name", ["with blanks", "100%n", "a'quote", "$(touch x)", "two\nlines"])
def test_a_folder_that_slurm_could_not_read_is_refused(tmp_path, name):
    assert "--folder" in refused(tmp_path / name)
    assert not (tmp_path / name).exists()


def test_a_folder_too_long_for_sockets_is_refused(tmp_path):
    assert "bytes" in refused(tmp_path / ("long" * 25))


def test_a_folder_with_other_things_is_left_as_it_is(tmp_path):
    mine = tmp_path / "state"
    mine.write_text("mine")
    assert "other things (state)" in refused(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["state"]
    assert mine.read_text() == "mine"


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "file").write_text("")
    assert "Not a directory" in refused(tmp_path / "file")


@pytest.mark.parametrize("words", [["--nodes", "0"], ["--cpus", "x"], ["--gpus", "-1"]])
def test_a_size_that_no_node_has_is_refused(tmp_path, words):
    done = call("up", "--folder", str(tmp_path / "cluster"), *words)
    assert done.returncode == 2
    assert words[0] in done.stderr


def test_what_never_was_up_is_down(tmp_path):
    assert call("status", "--folder", str(tmp_path / "none")).returncode == 1
    assert call("down", "--folder", str(tmp_path / "none")).stdout == "is down\n"
    assert not (tmp_path / "none").exists()
