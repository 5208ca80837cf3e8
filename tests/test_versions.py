"""Rows of an earlier version stand beside today's, and their files stay as they were.

There was none before version 1: the version 0 of these tests, which called the kernel the
implementation and had no curves, is invented.
"""

import json
from typing import Any

import pandas as pd
import pytest

from bench.errors import UserError
from bench.records import packed, versions
from bench.records.row import SCHEMA_VERSION, Row
from bench.records.store import Store, canonical
from bench.records.tidy import tidy
from tests import synthetic


def lift(data: dict[str, Any]) -> dict[str, Any]:
    kept = {key: value for key, value in data.items() if key != "implementation"}
    return {**kept, "kernel": data["implementation"], "curves": {}}


def older(row: Row) -> str:
    data = json.loads(canonical(row))
    implementation = data.pop("kernel")
    del data["curves"]
    return json.dumps({**data, "schema_version": 0, "implementation": implementation})


@pytest.fixture
def lifting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(versions.LIFTS, 0, lift)


@pytest.fixture
def rows() -> list[Row]:
    made = [synthetic.row(synthetic.run(seed=seed), curves={}) for seed in range(3)]
    return sorted(made, key=lambda row: row.id)


@pytest.fixture
def mixed(store: Store, rows: list[Row]) -> Store:
    """The first row is of version 0, the others are of today."""
    for row in rows:
        store.write(row)
    path = store.live_folder / f"{rows[0].id}.json"
    path.write_text(older(rows[0]))
    return store


def test_every_version_leads_to_this_one():
    assert sorted(versions.LIFTS) == list(range(min(versions.LIFTS, default=1), SCHEMA_VERSION))
    assert Row.model_fields["schema_version"].default == SCHEMA_VERSION


@pytest.mark.usefixtures("lifting")
def test_an_older_row_is_read_as_todays_and_its_file_stays(mixed: Store, rows: list[Row]):
    path = mixed.live_folder / f"{rows[0].id}.json"
    before = path.read_bytes()
    assert list(mixed.rows()) == rows
    assert mixed.statuses() == {row.id: "ok" for row in rows}
    assert mixed.endings()[1] == []
    assert list(mixed.frame()["kernel"]) == [row.kernel for row in rows]
    assert path.read_bytes() == before


@pytest.mark.usefixtures("lifting")
def test_packing_lifts_for_good(mixed: Store, rows: list[Row]):
    before = mixed.frame()
    assert mixed.pack() == 3
    versions.LIFTS.clear()
    assert list(mixed.rows()) == rows
    pd.testing.assert_frame_equal(mixed.frame(), before)


@pytest.mark.usefixtures("lifting")
def test_a_packed_row_and_the_same_one_of_an_older_version_are_one(mixed: Store, rows: list[Row]):
    """What a kill between the two steps of `pack` leaves, after an older version wrote the row."""
    path = mixed.live_folder / f"{rows[0].id}.json"
    text = path.read_text()
    mixed.pack()
    path.write_text(text)
    assert list(mixed.rows()) == rows
    assert len(mixed.frame()) == 3
    path.write_text(text.replace("onednn", "another"))
    with pytest.raises(UserError, match='kernel: "another" and "onednn"'):
        list(mixed.rows())


@pytest.mark.usefixtures("lifting")
def test_packed_rows_of_an_older_version_are_read_as_todays(store: Store, rows: list[Row]):
    store.packed_file.write_bytes(packed.encode(tidy(rows), [older(row) for row in rows]))
    assert list(store.rows()) == rows
    store.write(rows[0])
    assert list(store.rows()) == rows
    assert len(store.frame()) == 3
    assert store.pack() == 1
    assert list(store.rows()) == rows


def test_without_a_way_here_the_version_is_said(mixed: Store):
    with pytest.raises(UserError, match="has schema_version 0, this seqbench reads 1") as caught:
        list(mixed.rows())
    assert "\n" not in str(caught.value)
    assert len(mixed.endings()[1]) == 1


@pytest.mark.usefixtures("lifting")
@pytest.mark.parametrize(
    "change",
    [
        {"schema_version": 2},
        {"schema_version": -1},
        {"schema_version": "0"},
        {"schema_version": None},
        {"schema_version": True},
        {"schema_version": 0.0},
        {"implementation": ...},
        {"status": "fine"},
    ],
    ids=str,
)
def test_a_row_that_no_lift_makes_whole_is_named_and_left_alone(mixed: Store, rows, change):
    path = mixed.live_folder / f"{rows[0].id}.json"
    data = {**json.loads(path.read_text()), **change}
    path.write_text(json.dumps({key: value for key, value in data.items() if value is not ...}))
    before = path.read_bytes()
    for reader in (mixed.frame, mixed.pack, mixed.statuses, lambda: list(mixed.rows())):
        with pytest.raises(UserError) as caught:
            reader()
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)
    assert path.read_bytes() == before


def test_lifts_follow_each_other(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(versions, "SCHEMA_VERSION", 3)
    for version in range(3):
        monkeypatch.setitem(
            versions.LIFTS, version, lambda data, v=version: {**data, "seen": [*data["seen"], v]}
        )
    text = json.dumps({"schema_version": 1, "seen": []})
    assert versions.lifted(text) == {"schema_version": 3, "seen": [1, 2]}
