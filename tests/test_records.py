"""The store and the tidy table: rows stay whole, the same, and where they were."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from bench.errors import UserError
from bench.records import bootstrap, files, markdown
from bench.records.expected import complete, foreign
from bench.records.store import Store, canonical
from bench.records.summary import lines_of, summarise
from bench.records.table import FORMATS, render
from tests import synthetic

SMALL: dict[str, Any] = {"architectures": ("rnn", "lstm", "transformer"), "lengths": (128, 8192)}
RESAMPLING_NOISE = 0.01  # of two bootstraps with other random numbers, values being of order 1


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


@pytest.fixture
def filled(store: Store) -> Store:
    synthetic.fill(store, synthetic.runs(**SMALL))
    return store


def bytes_below(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def cells_of(store: Store, runs: list[Any]) -> dict[tuple[Any, ...], dict[str, Any]]:
    cells = lines_of(summarise(complete(synthetic.study(runs, store.folder), store)))
    return {(cell["task"], cell["length"], cell["architecture"]): cell for cell in cells}


def scored(score: float | None, val: float | None = None, **more: Any) -> dict[str, Any]:
    return {"test_score": score, "val_score": score if val is None else val, **more}


def test_a_row_comes_back_as_it_was_written(store: Store) -> None:
    row = synthetic.row(synthetic.run())
    path = store.write(row)
    assert path == store.folder / "rows" / f"{row.id}.json"
    assert list(store.rows()) == [row]
    assert store.ids() == {row.id}
    assert store.statuses() == {row.id: "ok"}


@pytest.mark.parametrize("how_many", [0, 5, None], ids=["live", "mixed", "packed"])
def test_live_and_packed_rows_read_alike(tmp_path: Path, how_many: int | None) -> None:
    runs = synthetic.runs(**SMALL)
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
    runs = synthetic.runs(**SMALL)
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


def test_readers_change_no_file(filled: Store) -> None:
    filled.pack()
    synthetic.fill(filled, synthetic.runs(("gru",), lengths=(128,)))
    before = bytes_below(filled.folder)
    runs = [*synthetic.runs(**SMALL), *synthetic.runs(("gru",), lengths=(128,))]
    study = synthetic.study(runs, filled.folder)
    first = [render(complete(study, filled), format_) for format_ in FORMATS]
    second = [render(complete(study, filled), format_) for format_ in FORMATS]
    assert first == second
    assert bytes_below(filled.folder) == before


def test_the_tidy_table_has_a_line_per_run_and_leaves_holes_empty(filled: Store) -> None:
    runs = [*synthetic.runs(**SMALL), synthetic.run("gru")]
    frame = complete(synthetic.study(runs, filled.folder), filled)
    assert list(frame["id"]) == [run.id for run in runs]
    assert frame["status"].iloc[-1] == "missing"
    bad = frame[frame["status"].isin(["missing", "oom"])]
    assert len(bad) > 1
    assert bad[["test_score", "train_tokens_per_s", "peak_bytes"]].isna().all(axis=None)
    csv = pd.read_csv(io.BytesIO(render(frame, "csv")))
    as_json = json.loads(render(frame, "json"))
    assert len(csv) == len(as_json) == len(frame)
    assert as_json[0]["test_score"] == frame["test_score"].iloc[0] == csv["test_score"].iloc[0]
    assert as_json[-1]["test_score"] is None
    assert len(pd.read_parquet(io.BytesIO(render(frame, "parquet")))) == len(frame)


def test_labels_are_those_of_the_study_not_of_the_row(store: Store) -> None:
    store.write(synthetic.row(synthetic.run({"name": "lstm", "label": "then"})))
    now = synthetic.run({"name": "lstm", "label": "now"})
    assert list(complete(synthetic.study([now], store.folder), store)["architecture"]) == ["now"]


def test_one_label_for_two_architectures_is_refused(store: Store) -> None:
    pair = [synthetic.run({"name": "lstm", "label": "x", "layers": n}) for n in (1, 2)]
    with pytest.raises(UserError, match="label 'x' names two different architectures"):
        complete(synthetic.study(pair, store.folder), store)


def test_rows_of_another_spec_are_named_with_the_nearest_run(store: Store) -> None:
    given = synthetic.run("lstm", training={"steps": 300})
    store.write(synthetic.row(given))
    wanted = [synthetic.run(name, training={"steps": 400}) for name in ("gru", "lstm")]
    study = synthetic.study(wanted, store.folder)
    with pytest.raises(UserError) as caught:
        complete(study, store)
    text = str(caught.value)
    assert f"1 row of no run of the study, the first {given.id}" in text
    assert "nearest is lstm" in text
    assert "training.steps: 300 in the row, 400 in the study" in text
    assert "bench prune" in text
    assert foreign(study, store) == {given.id}
    store.set_aside(foreign(study, store))
    assert set(complete(study, store)["status"]) == {"missing"}


def test_no_rows_is_a_table_of_missing_runs(store: Store) -> None:
    study = synthetic.study(synthetic.runs(**SMALL), store.folder)
    frame = complete(study, store)
    assert set(frame["status"]) == {"missing"}
    assert f"{len(study.runs)} missing" in render(frame, "md").decode()


def test_what_is_missing_is_never_averaged(store: Store) -> None:
    runs = [synthetic.run(seed=seed) for seed in range(4)]
    store.write(synthetic.row(runs[0], metrics=scored(0.5)))
    store.write(synthetic.row(runs[1], metrics=scored(0.7)))
    store.write(synthetic.row(runs[2], metrics=scored(float("nan"))))
    store.write(synthetic.row(runs[3], "diverged"))
    cell = cells_of(store, [*runs, synthetic.run(seed=4)])[("mqar", 128, "lstm")]
    assert cell["score"] == pytest.approx(0.6)
    assert (cell["n_seeds"], cell["n_wanted"]) == (2, 5)
    assert cell["problems"] == "1 diverged, 1 missing, 1 without score"


@pytest.mark.parametrize(("task", "chosen"), [("mqar", 0.001), ("adding", 0.003)])
def test_val_selects_and_test_is_reported(store: Store, task: str, chosen: float) -> None:
    """Test would have chosen the other learning rate in either direction."""
    runs = {
        (rate, seed): synthetic.run(
            task=task, seed=seed, training={"steps": 300, "learning_rate": rate}
        )
        for rate in (0.001, 0.003)
        for seed in range(2)
    }
    for (rate, _), run in runs.items():
        high_val = rate == 0.001
        metrics = scored(0.2 if high_val else 0.9, val=0.8 if high_val else 0.3)
        store.write(synthetic.row(run, metrics=metrics))
    cell = cells_of(store, list(runs.values()))[(task, 128, "lstm")]
    assert cell["learning_rate"] == chosen
    assert cell["score"] == (0.2 if chosen == 0.001 else 0.9)
    assert cell["n_settings"] == 2
    assert (cell["learning_rate_low"], cell["learning_rate_high"]) == (0.001, 0.003)


def test_a_setting_that_lost_a_seed_is_not_chosen_for_the_survivors(store: Store) -> None:
    runs = [
        synthetic.run(seed=seed, training={"steps": 300, "learning_rate": rate})
        for rate in (0.001, 0.01)
        for seed in range(2)
    ]
    for run, value in zip(runs, (0.5, 0.5, 0.9, None), strict=True):
        bad = value is None
        more = {} if bad else {"metrics": scored(value)}
        store.write(synthetic.row(run, "diverged" if bad else "ok", **more))
    cell = cells_of(store, runs)[("mqar", 128, "lstm")]
    assert (cell["learning_rate"], cell["score"], cell["n_seeds"]) == (0.001, 0.5, 2)
    assert (cell["problems"], cell["other_problems"]) == ("", "1 diverged")


def test_one_seed_has_no_interval_and_equal_seeds_have_one_of_no_width(store: Store) -> None:
    one, *two = [synthetic.run(length=128), *(synthetic.run(length=256, seed=s) for s in (0, 1))]
    for run in (one, *two):
        store.write(synthetic.row(run, metrics=scored(0.5)))
    cells = cells_of(store, [one, *two])
    assert np.isnan(cells[("mqar", 128, "lstm")]["score_low"])
    assert cells[("mqar", 256, "lstm")]["score_low"] == 0.5
    text = render(complete(synthetic.study([one, *two], store.folder), store), "md").decode()
    assert "0.5000 ± 0 " in text
    assert "| 0.5000 " in text


def test_a_length_that_only_was_measured_appears_with_its_speed(store: Store) -> None:
    runs = [synthetic.run(length=128), synthetic.measuring(length=4096)]
    for run in runs:
        store.write(synthetic.row(run))
    cell = cells_of(store, runs)[("mqar", 4096, "lstm")]
    assert cell["n_wanted"] == 0
    assert cell["train_tokens_per_s"] > 0
    assert cell["metric"] == "accuracy"  # known from the other length


def test_observed_speed_of_a_training_run_is_no_measurement(store: Store) -> None:
    run = synthetic.run()
    store.write(synthetic.row(run))
    assert np.isnan(cells_of(store, [run])[("mqar", 128, "lstm")]["train_tokens_per_s"])


@pytest.mark.parametrize("n_seeds", [2, 3, 5, 9])
def test_the_interval_is_that_of_scipy(n_seeds: int) -> None:
    values = np.random.default_rng(1).random((4, n_seeds))
    low, high = bootstrap.interval(values)
    for line, ours in zip(values, zip(low, high, strict=True), strict=True):
        found = stats.bootstrap(
            (line,), np.mean, method="percentile", n_resamples=20_000, rng=np.random.default_rng(2)
        ).confidence_interval
        assert ours == pytest.approx((found.low, found.high), abs=RESAMPLING_NOISE)


def test_an_interval_depends_on_its_own_values_only() -> None:
    values = np.random.default_rng(1).random((3000, 7))
    low, high = bootstrap.interval(values)
    alone = bootstrap.interval(values[1234:1235])
    assert (low[1234], high[1234]) == (alone[0][0], alone[1][0])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (markdown.number(0.91299), "0.9130"),
        (markdown.number(12.3456), "12.35"),
        (markdown.number(0.0), "0"),
        (markdown.number(1.23e-7), "1.23e-07"),
        (markdown.number(None), ""),
        (markdown.number(pd.NA), ""),
        (markdown.with_interval(0.9123, 0.9, 0.924), "0.912 ± 0.012"),
        (markdown.with_interval(0.9123, None, None), "0.9123"),
        (markdown.count(123456, 3), "123,000"),
        (markdown.count(1.234, 3), "1.23"),
        (markdown.bytes_text(20 * 2**20), "20.0"),
        (markdown.escape("a|b\n<c>\x1b[31m"), r"a\|b \<c> \[31m"),
    ],
)
def test_numbers_and_names_in_tables(text: str, expected: str) -> None:
    assert text == expected
