"""Rows from two clusters in one folder: all or none, and nothing lost, changed or made up."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bench.commands.merge import merge
from bench.errors import UserError
from bench.records import files
from bench.records.merge import gather
from bench.records.store import Store, canonical
from bench.records.twice import differences
from bench.study import load
from tests import synthetic
from tests.test_status import STUDY

SEEDS = range(10)


def cluster(folder: Path, seeds, *, study: str | None = STUDY, pack: bool = False) -> Store:
    """A folder with the rows of some seeds of the study."""
    folder.mkdir(parents=True)
    if study is not None:
        (folder / "study.yaml").write_text(study)
    store = Store(folder)
    for run in runs():
        if run.seed in seeds:
            store.write(synthetic.row(run))
    if pack:
        store.pack()
    return store


def runs():
    return [synthetic.run(width=16, seed=seed, training={"steps": 300}) for seed in SEEDS]


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def texts(store: Store) -> list[str]:
    return [canonical(row) for row in store.rows()]


@pytest.mark.parametrize("packed", [(), (0,), (1,), (0, 1)])
def test_the_rows_of_both_are_in_the_first_and_the_second_is_as_it_was(tmp_path, packed, capsys):
    whole = cluster(tmp_path / "whole", SEEDS)
    a = cluster(tmp_path / "a 'b'; $(c)", (0, 1, 2, 3), pack=0 in packed)
    b = cluster(tmp_path / "b\nb", (3, 4, 5, 6, 7, 8, 9), pack=1 in packed)
    before = contents(b.folder)
    merge([a.folder, b.folder])
    assert texts(a) == texts(whole)
    assert contents(b.folder) == before
    printed = capsys.readouterr().out
    assert f"the same in more than one folder: 1 row ({runs()[3].id})" in printed
    assert "6 rows added" in printed
    assert "10 of 10 cells" in printed
    merge([a.folder, b.folder])
    assert texts(a) == texts(whole)
    assert "0 rows added" in capsys.readouterr().out


def test_into_a_new_folder_the_study_comes_too_and_both_stay_as_they_were(tmp_path):
    a, b = cluster(tmp_path / "a", (0, 1)), cluster(tmp_path / "b", (2, 3), pack=True)
    before = contents(a.folder), contents(b.folder)
    target = tmp_path / "new" / "c"
    merge([a.folder, b.folder], target)
    assert (contents(a.folder), contents(b.folder)) == before
    assert {row.run["seed"] for row in Store(target).rows()} == {0, 1, 2, 3}
    assert load(target).runs == load(a.folder).runs


def test_a_second_cluster_needs_no_study_of_its_own(tmp_path):
    a, b = cluster(tmp_path / "a", (0,)), cluster(tmp_path / "b", (1,), study=None)
    merge([a.folder, b.folder], tmp_path / "c")
    assert len(Store(tmp_path / "c").ids()) == 2


def test_three_are_merged_as_two_are(tmp_path):
    three = [cluster(tmp_path / str(n), (n, n + 1)) for n in range(3)]
    merge([store.folder for store in three])
    assert {row.run["seed"] for row in three[0].rows()} == {0, 1, 2, 3}


@pytest.mark.parametrize("packed", [(), (0,), (1,), (0, 1)])
def test_two_rows_of_one_id_that_differ_are_shown_and_nothing_is_merged(tmp_path, packed):
    a, b = cluster(tmp_path / "a", (0, 1)), cluster(tmp_path / "b", (2,))
    row = synthetic.row(runs()[0])
    other = row.model_copy(
        update={"metrics": {**row.metrics, "test_score": 0.5}, "kernel": "another"}
    )
    b.write(other)
    for n, store in enumerate((a, b)):
        if n in packed:
            store.pack()
    before = contents(tmp_path)
    for into in (None, tmp_path / "c"):
        with pytest.raises(UserError) as caught:
            merge([a.folder, b.folder], into)
        text = str(caught.value)
        assert row.id in text
        assert str(a.folder) in text
        assert str(b.folder) in text
        assert 'kernel: "onednn" and "another"' in text
        assert f"metrics.test_score: {row.metrics['test_score']} and 0.5" in text
        assert "\n" not in text
        assert contents(tmp_path) == before


def test_differences_are_those_and_no_others():
    row = synthetic.row(synthetic.run())
    assert differences(row, row) == []
    longer = row.model_copy(update={"log_tail": "x" * 1000, "scored": None})
    found = differences(row, longer)
    assert [line.partition(":")[0] for line in found] == [
        "log_tail",
        *(f"scored.{key}" for key in ("chance", "higher_is_better", "metric", "unit")),
    ]
    assert max(map(len, found)) < 200


def test_what_is_no_row_is_named_and_left_alone_and_the_others_are_merged(tmp_path, capsys):
    a, b = cluster(tmp_path / "a", (0,)), cluster(tmp_path / "b", (1, 2, 3))
    truncated, moved = (b.live_folder / f"{runs()[seed].id}.json" for seed in (1, 2))
    truncated.write_text(truncated.read_text()[:100])
    moved.rename(moved.with_name(f"{'0' * 16}.json"))
    (b.live_folder / "copy of a row.json").write_text("{}")
    stranger = synthetic.row(synthetic.run(seed=77))
    b.write(stranger)
    before = contents(b.folder)
    merge([a.folder, b.folder])
    assert {row.run["seed"] for row in a.rows()} == {0, 3}
    assert contents(b.folder) == before
    printed = capsys.readouterr().out
    for name in (truncated.name, f"{'0' * 16}.json", "copy of a row.json", stranger.id):
        (line,) = (line for line in printed.splitlines() if name in line)
        assert line.startswith("left alone: ")


def test_a_truncated_row_here_is_no_reason_not_to_take_it_from_there(tmp_path):
    a, b = cluster(tmp_path / "a", (0, 1)), cluster(tmp_path / "b", (1,))
    damaged = a.live_folder / f"{runs()[1].id}.json"
    damaged.write_text("{")
    merge([a.folder, b.folder])
    assert damaged.read_text() == "{"
    damaged.unlink()
    assert {row.run["seed"] for row in a.rows()} == {0, 1}


def test_damaged_packed_rows_stop_it_before_anything_is_written(tmp_path):
    a, b = cluster(tmp_path / "a", (0,)), cluster(tmp_path / "b", (1,), pack=True)
    b.packed_file.write_bytes(b"PAR1")
    before = contents(tmp_path)
    with pytest.raises(UserError, match=r"b/rows\.parquet"):
        merge([a.folder, b.folder])
    assert contents(tmp_path) == before


def test_a_kill_on_the_way_leaves_the_rows_as_they_were(tmp_path, monkeypatch):
    a, b = cluster(tmp_path / "a", (0,), pack=True), cluster(tmp_path / "b", (1, 2))
    before = texts(a)

    def killed(path: Path, content: bytes) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(files, "write_atomically", killed)
        with pytest.raises(KeyboardInterrupt):
            merge([a.folder, b.folder])
    assert texts(a) == before
    merge([a.folder, b.folder])
    assert len(a.ids()) == 3


def test_it_waits_for_another_process_that_rewrites_the_rows(tmp_path):
    a, b = cluster(tmp_path / "a", (0,)), cluster(tmp_path / "b", (1,))
    words = [sys.executable, "-m", "bench", "merge", str(a.folder), str(b.folder)]
    with files.exclusive(a.folder):
        process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(timeout=4)
        assert not a.packed_file.exists()
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "1 rows added" in output or "1 row added" in output


@pytest.mark.parametrize(
    ("folders", "message"),
    [
        (["a"], "at least two folders"),
        (["a", "none"], "no folder "),
        (["a", "a/../a"], "are one folder"),
        (["a", "empty"], "no rows in "),
        (["b", "a"], "no study at "),
    ],
)
def test_wrong_folders_are_one_line(tmp_path, folders, message):
    cluster(tmp_path / "a", (0,))
    cluster(tmp_path / "b", (1,), study=None)
    (tmp_path / "empty").mkdir()
    before = contents(tmp_path)
    with pytest.raises(UserError, match=message) as caught:
        merge([tmp_path / folder for folder in folders])
    assert "\n" not in str(caught.value)
    assert contents(tmp_path) == before


def test_different_studies_get_no_folder_of_their_own(tmp_path):
    a = cluster(tmp_path / "a", (0,))
    b = cluster(tmp_path / "b", (1,), study=STUDY.replace("[128]", "[128, 256]"))
    with pytest.raises(UserError, match="10 runs are in the second alone, 0 in the first alone"):
        merge([a.folder, b.folder], tmp_path / "c")
    assert not (tmp_path / "c").exists()
    merge([b.folder, a.folder], b.folder)  # whose study asks for all of them
    assert len(b.ids()) == 2


def test_gathering_writes_nothing_and_counts_what_is_there_twice(tmp_path):
    a, b = cluster(tmp_path / "a", (0, 1)), cluster(tmp_path / "b", (1, 2))
    before = contents(tmp_path)
    found = gather([a, b], {run.id for run in runs()})
    assert len(found.rows) == 3
    assert found.duplicates == [runs()[1].id]
    assert (found.problems, found.strangers) == ([], {})
    assert contents(tmp_path) == before


def test_the_command_line_merges(tmp_path):
    a, b = cluster(tmp_path / "a", (0,)), cluster(tmp_path / "-b", (1,))
    words = [sys.executable, "-m", "bench", "merge", "--into", "c", "--", "a", "-b"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (a.ids() | b.ids()) == Store(tmp_path / "c").ids()
    assert json.loads(next(Store(tmp_path / "c").rows()).model_dump_json())["status"] == "ok"
