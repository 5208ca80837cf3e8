"""Rows that nobody should have written: one line or an empty cell, and never a changed file."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from bench import cli
from bench.errors import UserError
from bench.records import packed
from bench.records.row import Row
from bench.records.store import Store, canonical
from bench.records.tidy import tidy
from bench.study import load
from tests import synthetic

STUDY = """\
title: Damaged
base: {training: {steps: 300}}
grid: {architecture: [rnn, lstm], task: [mqar, adding], length: [128, 256], seed: [0, 1]}
measure: {instruments: [throughput, memory]}
"""
READERS = ("table", "leaderboard", "claims", "scaling", "generalisation", "streams", "report")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "study.yaml").write_text(STUDY)
    store = Store(tmp_path)
    for run in load(tmp_path).runs:
        store.write(synthetic.row(run))
    return tmp_path


def rows_below(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(folder.glob("rows*/*"))} | {
        str(path): path.read_bytes() for path in folder.glob("rows.parquet")
    }


def invoke(*words: str) -> str:
    """What a command prints; a UserError is what `main` makes one line and exit code 2 of."""
    done = CliRunner().invoke(cli.app, list(words))
    if isinstance(done.exception, UserError):
        message = str(done.exception)
        assert "\n" not in message
        return message
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0
    return done.stdout


def edited(folder: Path, purpose: str, **changes) -> None:
    """Change the metrics of all rows that trained, or that measured."""
    for path in (folder / "rows").iterdir():
        data = json.loads(path.read_text())
        if (purpose == "train") == bool(data["run"]["training"].get("steps")):
            data["metrics"] |= changes
            path.write_text(json.dumps(data))


@pytest.mark.parametrize(
    ("of_training", "of_measuring"),
    [
        (
            {"test_score": "high", "val_score": "higher"},
            {"train_tokens_per_s": "fast", "peak_bytes": "much", "noise_floor": "loud"},
        ),
        (
            {"parameters": 10**30, "state_bytes": 10**25},
            {"train_tokens_per_s": -5.0, "peak_bytes": -3, "noise_floor": -2.0},
        ),
        (
            {"test_score": 1e30, "test_accuracy_at_256": "x"},
            {
                "reach_input_json": "{no json",
                "stream_us_p50_at_1": "x",
                "stream_state_verdict": 3.0,
                "train_mfu": "a",
            },
        ),
    ],
    ids=["texts", "sizes", "instruments"],
)
def test_numbers_that_are_none_are_missing_and_rows_stay(folder, of_training, of_measuring):
    edited(folder, "train", **of_training)
    edited(folder, "measure", **of_measuring)
    before = rows_below(folder)
    for reader in READERS:
        text = invoke(reader, str(folder))
        assert "nan" not in text.lower().split(), reader
    assert rows_below(folder) == before


def test_a_speed_of_nothing_is_not_compared(folder):
    edited(folder, "measure", train_tokens_per_s=0.0, infer_tokens_per_s=0, peak_bytes=0)
    text = invoke("compare", str(folder), str(folder))
    assert "tokens/s" not in text
    assert "16 no difference" not in text


def replaced(table, name, values):
    place = table.schema.get_field_index(name)
    return table.set_column(place, name, pa.array(values))


@pytest.mark.parametrize(
    ("name", "values", "problem"),
    [
        ("id", 1, "its column 'id' is not all texts"),
        ("row", None, "its column 'row' is not all texts"),
    ],
)
def test_packed_rows_of_another_schema_are_refused_by_name(folder, name, values, problem):
    store = Store(folder)
    store.pack()
    table = pq.read_table(store.packed_file).replace_schema_metadata(None)
    pq.write_table(replaced(table, name, [values] * len(table)), store.packed_file)
    before = rows_below(folder)
    assert problem in invoke("table", str(folder))
    assert rows_below(folder) == before


@pytest.mark.parametrize("column", ["length", "test_score", "higher_is_better"])
def test_tidy_columns_that_are_texts_are_made_from_the_rows_again(folder, column):
    store = Store(folder)
    store.pack()
    good = store.frame()
    table = pq.read_table(store.packed_file)
    damaged = replaced(table, column, ["x"] * len(table))
    pq.write_table(damaged.replace_schema_metadata(table.schema.metadata), store.packed_file)
    assert packed.frame(store.packed_file) is None
    assert store.frame().equals(good)


def test_an_id_twice_in_a_packed_file_counts_for_none(folder):
    store = Store(folder)
    store.pack()
    table = pq.read_table(store.packed_file)
    pq.write_table(pa.concat_tables([table, table]), store.packed_file)
    assert "24 ids more than once" in invoke("table", str(folder))


def test_a_level_that_is_no_number_is_not_known():
    row = synthetic.row(synthetic.run())
    for value in (float("nan"), float("inf")):
        text = canonical(row).replace('"chance":0.0156', f'"chance":{json.dumps(value)}')
        found = Row.model_validate_json(text)
        assert found.scored.chance is None
        canonical(found)


@pytest.mark.parametrize("value", [1e308, -1e308, int("9" * 400)])
def test_a_number_too_large_to_compute_with_is_missing(value):
    text = canonical(synthetic.row(synthetic.run(), metrics={"test_score": 0.5}))
    row = Row.model_validate_json(text.replace('"test_score":0.5', f'"test_score":{value}'))
    assert row.metrics == {"test_score": None}


def test_a_curve_has_no_point_at_no_step():
    row = synthetic.row(synthetic.run(), curves={"val_score": [[1, 0.5], [float("nan"), 0.6]]})
    assert row.curves == {"val_score": [(1.0, 0.5)]}


@pytest.mark.parametrize("versions", [None, "torch", 3])
def test_an_origin_without_versions_is_read(versions):
    row = synthetic.row(synthetic.run(), provenance={"device": "cpu", "versions": versions})
    assert tidy([row])["versions"].tolist() == ["python None"]


@pytest.mark.parametrize(
    "text", ["[" * 100_000, '{"resolved":' + '{"a":' * 3000 + "1" + "}" * 3001]
)
def test_a_row_nested_too_deeply_is_named(folder, text):
    path = next((folder / "rows").iterdir())
    path.write_text(text)
    assert str(path) in invoke("table", str(folder))
