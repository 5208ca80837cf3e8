"""The store: rows stay whole, the same, and where they were."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pandas as pd
import pytest

from bench.errors import UserError
from bench.records import files
from bench.records.expected import complete
from bench.records.store import Store, canonical
from bench.records.table import FORMATS, render
from tests import synthetic


def test_a_row_comes_back_as_it_was_written(store: Store) -> None:
    row = synthetic.row(synthetic.run())
    path = store.write(row)
    assert path == store.folder / "rows" / f"{row.id}.json"
    assert list(store.rows()) == [row]
    assert store.ids() == {row.id}
    assert store.statuses() == {row.id: "ok"}


@pytest.mark.parametrize("how_many", [0, 5, None], ids=["live", "mixed", "packed"])
def test_live_and_packed_rows_read_alike(tmp_path: Path, how_many: int | None) -> None:
    runs = synthetic.runs(**synthetic.SMALL)
    live, other = Store(tmp_path / "live"), Store(tmp_path / "other")
    synthetic.fill(live, runs)
    synthetic.fill(other, runs[:how_many])
    if how_many != 0:
        other.pack()
    synthetic.fill(other, [run for run in runs if run.id not in other.ids()])
    assert list(other.rows()) == list(live.rows())
    assert other.ids() == live.ids()
    assert other.statuses() == live.statuses()
    pd.testing.assert_frame_equal(other.frame(), live.frame())
    study = synthetic.study(runs, tmp_path)
    for format_ in FORMATS:
        ours, theirs = (render(complete(study, one), format_) for one in (other, live))
        assert ours == theirs


def test_tables_of_packed_rows_parse_no_row(filled: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    filled.pack()
    monkeypatch.setattr(Store, "_parse", lambda *_: pytest.fail("parsed a row"))
    assert len(filled.frame()) == len(filled.ids())


def test_packing_is_complete_repeatable_and_the_same_in_steps(tmp_path: Path) -> None:
    at_once, in_steps = Store(tmp_path / "a"), Store(tmp_path / "b")
    runs = synthetic.runs(**synthetic.SMALL)
    synthetic.fill(at_once, runs)
    n_rows = len(at_once.ids())
    assert at_once.pack() == n_rows
    assert not list((at_once.folder / "rows").iterdir())
    content = at_once.packed_file.read_bytes()
    assert at_once.pack() == 0
    assert at_once.packed_file.read_bytes() == content
    for part in (runs[20:], runs[:20]):
        synthetic.fill(in_steps, part)
        in_steps.pack()
    assert in_steps.packed_file.read_bytes() == content


def test_a_kill_between_the_parquet_file_and_the_removal_is_harmless(
    filled: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = filled.frame()
    with monkeypatch.context() as patch:
        patch.setattr(Store, "_unlink_live", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            filled.pack()
    assert filled.packed_file.exists()
    assert len(list(filled.live_folder.iterdir())) == len(before)
    pd.testing.assert_frame_equal(filled.frame(), before)
    filled.pack()
    assert not list(filled.live_folder.iterdir())
    pd.testing.assert_frame_equal(filled.frame(), before)


def test_a_killed_write_leaves_no_row_and_pack_sweeps_it_up(
    filled: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = filled.ids()
    left = filled.live_folder / f"{files.TEMPORARY_PREFIX}abc"
    left.write_text('{"id": "ha')
    assert filled.ids() == ids
    assert len(filled.frame()) == len(ids)
    filled.pack()
    assert not left.exists()

    def fail(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(UserError, match="No space left"):
        filled.write(synthetic.row(synthetic.run(seed=99)))
    assert not list(filled.live_folder.iterdir())


def test_the_same_id_twice_is_an_error_unless_identical(store: Store) -> None:
    row = synthetic.row(synthetic.run())
    store.write(row)
    store.pack()
    store.write(row)
    assert list(store.rows()) == [row]
    store.write(row.model_copy(update={"kernel": "another"}))
    for reader in (store.frame, store.pack, lambda: list(store.rows())):
        with pytest.raises(UserError, match=rf"rows/{row.id}\.json and .*rows\.parquet hold diff"):
            reader()


def damaged(row_text: str) -> dict[str, tuple[str, str]]:
    data = json.loads(row_text)
    return {
        "empty": ("", "is empty"),
        "truncated": (row_text[: len(row_text) // 2], "not whole JSON"),
        "a list": ("[1, 2]", "no row but a JSON list"),
        "version 2": (json.dumps({**data, "schema_version": 2}), "schema_version 2"),
        "misspelt": (json.dumps({**data, "kernal": "x"}), "did you mean 'kernel'"),
        "bad status": (json.dumps({**data, "status": "fine"}), "no status 'fine'"),
        "no run": (json.dumps({k: v for k, v in data.items() if k != "run"}), "run is missing"),
        "another's": (json.dumps({**data, "id": "0" * 16}), "holds the row 0000"),
    }


@pytest.mark.parametrize("kind", damaged(canonical(synthetic.row(synthetic.run()))))
def test_a_damaged_row_is_named_in_one_line_and_left_alone(store: Store, kind: str) -> None:
    row = synthetic.row(synthetic.run())
    path = store.write(row)
    content, message = damaged(canonical(row))[kind]
    path.write_text(content)
    for reader in (store.frame, store.pack, store.statuses, lambda: list(store.rows())):
        with pytest.raises(UserError) as caught:
            reader()
        text = str(caught.value)
        assert str(path) in text
        assert message in text
        assert "\n" not in text
    assert path.read_text() == content
    assert not store.packed_file.exists()


@pytest.mark.parametrize("name", ["notes.txt", "copy of a row.json", "0123456789abcdeF.json"])
def test_a_foreign_file_among_the_rows_is_named(filled: Store, name: str) -> None:
    (filled.live_folder / name).write_text("{}")
    with pytest.raises(UserError, match=f"{name} is no row"):
        filled.frame()


@pytest.mark.parametrize("content", [b"", b"PAR1", b"not parquet at all"])
def test_a_damaged_parquet_file_is_named(store: Store, content: bytes) -> None:
    store.packed_file.write_bytes(content)
    for reader in (store.frame, store.ids, store.statuses, lambda: list(store.rows())):
        with pytest.raises(UserError, match=r"rows\.parquet"):
            reader()


def test_someone_elses_parquet_file_is_named(store: Store) -> None:
    pd.DataFrame({"id": ["a"]}).to_parquet(store.packed_file)
    with pytest.raises(UserError, match=r"rows\.parquet"):
        store.frame()


def test_a_parquet_file_of_another_layout_is_read_by_its_rows(
    filled: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = filled.frame()
    with monkeypatch.context() as patch:
        patch.setattr("bench.records.packed.LAYOUT", b"seqbench rows 0")
        filled.pack()
    pd.testing.assert_frame_equal(filled.frame(), before)


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "rows").write_text("a file where the folder should be")
    with pytest.raises(UserError, match="cannot write"):
        Store(tmp_path).write(synthetic.row(synthetic.run()))


@pytest.mark.parametrize("pack", [False, True])
def test_removed_rows_are_missing_again_and_others_stay(filled: Store, pack: bool) -> None:
    before = {row.id: row for row in filled.rows()}
    if pack:
        filled.pack()
    gone = set(sorted(before)[:3])
    assert filled.remove(gone | {"f" * 16}) == 3
    assert {row.id: row for row in filled.rows()} == {
        row_id: row for row_id, row in before.items() if row_id not in gone
    }


@pytest.mark.parametrize("pack", [False, True])
def test_rows_set_aside_are_kept_whole(filled: Store, pack: bool) -> None:
    row = next(filled.rows())
    for kernel in (row.kernel, "another"):
        filled.remove([row.id])
        filled.write(row.model_copy(update={"kernel": kernel}))
        if pack:
            filled.pack()
        assert filled.set_aside([row.id]) == 1
        assert row.id not in filled.ids()
    kept = [json.loads(path.read_text()) for path in sorted(filled.aside_folder.iterdir())]
    assert {data["kernel"] for data in kept} == {row.kernel, "another"}
