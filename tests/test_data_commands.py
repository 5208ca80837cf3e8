"""`bench data`, and what happens to a study whose data is missing."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bench.catalogue import check, data_sets
from bench.cli import main
from bench.errors import UserError
from bench.study import load, one_run
from bench.training.execute import execute
from tasks.data import standard_library
from tasks.data.cache import missing
from tasks.data.sets import DATA_SETS, DataFile, DataSet
from tasks.parity import Parity
from tasks.python_bytes import PythonBytes
from tests import loopback
from tests.loopback import Site, status, whole

STUDY = """
title: Small
base: {width: 8, training: {steps: 4, batch_size: 4}}
grid: {architecture: [gru], task: [python_bytes, parity], length: [16]}
"""

Bench = Callable[..., tuple[int, str, str]]


@pytest.fixture
def bench(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Bench:
    monkeypatch.setenv("SEQBENCH_DATA", str(tmp_path / "the cache"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")

    def run(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["bench", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            main()
        code = ended.value.code
        assert code is None or isinstance(code, int)
        return (code or 0, *capsys.readouterr())

    return run


@pytest.fixture
def site() -> Iterator[Site]:
    with loopback.site() as server:
        yield server


@pytest.fixture
def study(tmp_path: Path) -> Path:
    folder = tmp_path / "a study"
    folder.mkdir()
    (folder / "study.yaml").write_text(STUDY)
    return folder


def register(monkeypatch: pytest.MonkeyPatch, name: str, *urls: str) -> None:
    file = DataFile(name="f", urls=urls, bytes=None, sha256=None)
    made = DataSet(title="t", source="a source", licence="a licence", files=(file,))
    monkeypatch.setitem(DATA_SETS, name, made)


@pytest.mark.parametrize("words", [["list"], ["verify"], ["path", "mnist"], ["fetch", "--help"]])
def test_data_commands_import_nothing_heavy(words: list[str], tmp_path: Path) -> None:
    code = (
        "import sys\nfrom bench.cli import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "heavy = {'torch', 'lightning', 'pandas', 'numpy', 'altair'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "data", *words],
        capture_output=True,
        text=True,
        env={"SEQBENCH_DATA": str(tmp_path), "PYTHONPATH": ":".join(sys.path)},
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert not list(tmp_path.iterdir())


def test_a_set_is_fetched_listed_verified_and_found(
    bench: Bench, site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    register(monkeypatch, "a_set", site.put("/f", whole(b"content")))
    folder = tmp_path / "the cache" / "a_set"
    row = "a_set +[?] +{here} +first use{known} +a source +a licence\n"

    code, out, _ = bench("data", "list")
    assert code == 0
    assert len(out.splitlines()) == len(DATA_SETS) + 2
    assert_line(row.format(here="no", known=""), out)
    assert bench("data", "path", "a_set")[:2] == (1, "")
    assert bench("data", "verify", "a_set")[0] == 1

    assert bench("data", "fetch", "a_set") == (0, f"a_set  {folder}\n", "")
    assert bench("data", "path", "a_set") == (0, f"{folder}\n", "")
    assert bench("data", "verify") == (0, "a_set  ok\n", "")
    # The first 12 digits of sha256(b"content").
    assert_line(row.format(here="cache", known=": ed7002b439e9"), bench("data", "list")[1])

    (folder / "f").write_bytes(b"changed")
    code, out, _ = bench("data", "verify")
    assert code == 1
    assert out.startswith("a_set  wrong: ")
    assert len(site.requests) == 1


def assert_line(pattern: str, text: str) -> None:
    assert any(re.fullmatch(pattern, line) for line in text.splitlines(keepends=True)), text


def test_one_failure_does_not_stop_the_other_fetches(
    bench: Bench, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    register(monkeypatch, "bad", site.put("/bad", status(404)))
    register(monkeypatch, "good", site.put("/good", whole(b"x")))
    code, out, err = bench("data", "fetch", "bad", "good")
    assert code == 1
    assert out.startswith("good  ")
    assert "/bad: HTTP 404" in err
    assert len(err.splitlines()) == 1


def test_unknown_sets_are_refused_before_anything_is_fetched(
    bench: Bench, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    register(monkeypatch, "good", site.put("/good", whole(b"x")))
    for command in ("fetch", "verify"):
        code, out, err = bench("data", command, "good", "mnits")
        assert (code, out) == (2, "")
        assert "no data set 'mnits'; did you mean 'mnist'?" in err
    assert not site.requests
    assert bench("data", "fetch")[0] == 2
    assert bench("data", "path", "mnits")[0] == 2


def test_a_study_fetches_what_its_tasks_read(
    bench: Bench, site: Site, study: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    register(monkeypatch, "first", site.put("/1", whole(b"1")))
    register(monkeypatch, "second", site.put("/2", whole(b"2")))
    monkeypatch.setattr(PythonBytes, "data_sets", ("second", "first"))
    code, out, _ = bench("data", "fetch", "--study", study)
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()] == ["first", "second"]
    monkeypatch.setattr(PythonBytes, "data_sets", ())
    assert bench("data", "fetch", "--study", study) == (0, f"{study}: its tasks read no data\n", "")


def test_data_sets_may_depend_on_the_fields(monkeypatch: pytest.MonkeyPatch) -> None:
    by_length = property(lambda task: (f"of_{task.length}",))
    monkeypatch.setattr(Parity, "data_sets", by_length)
    runs = [one_run("gru", "parity", length, 0, []) for length in (8, 16, 8)]
    assert data_sets(runs) == ("of_16", "of_8")


def test_a_sweep_without_its_data_names_the_command(
    bench: Bench, study: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PythonBytes, "data_sets", ("enwik8", "lra"))
    command = f"run `bench data fetch --study '{study}'`"
    code, out, err = bench("sweep", study, "--dry-run")
    assert (code, out) == (2, "")
    assert err == (
        f"bench: {study}: not on this machine: enwik8 (34.8 MiB), lra (size not published); "
        f"{command}\n"
    )
    with pytest.raises(UserError, match="run `bench data fetch enwik8`"):
        check(list(load(study).runs))
    monkeypatch.setattr(PythonBytes, "data_sets", ("bible_en_es",))
    with pytest.raises(UserError, match="no download of it is known: put web_rv1909"):
        check(list(load(study).runs), study)


def test_a_worker_without_its_data_leaves_a_row(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(task: str) -> None:
        raise missing("enwik8")

    for reader in ("read", "sha256"):
        monkeypatch.setattr(standard_library, reader, gone)
    run = one_run("gru", "python_bytes", 16, 0, ["width=8", "training.steps=2"])
    row = execute(run, "study", {})
    assert row.status == "failed"
    assert row.reason == str(missing("enwik8"))
    assert "run `bench data fetch enwik8`" in row.reason
