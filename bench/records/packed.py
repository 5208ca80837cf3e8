"""Packed rows: one zstd Parquet file with the tidy columns and, as `row`, each row's whole JSON.

The tidy columns are there so that tables of 100,000 rows need not parse 100,000 JSON texts.
"""

from __future__ import annotations

import io
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

    Table = Any  # pyarrow has no types

# Stands in the file. Whoever changes the tidy columns changes it; older files are read by `row`.
LAYOUT = b"seqbench rows 2"


def encode(frame: pd.DataFrame, texts: list[str]) -> bytes:
    """The file's bytes; equal rows give equal bytes. `texts` are the rows of `frame`, in order."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.Table.from_pandas(frame, preserve_index=False)
    # An all-missing column has no type of its own: keep the reader from guessing.
    for index, field in enumerate(table.schema):
        if pa.types.is_null(field.type) or pa.types.is_large_string(field.type):
            table = table.set_column(index, field.name, table.column(index).cast(pa.string()))
    table = table.append_column("row", pa.array(texts, pa.large_string()))
    table = table.replace_schema_metadata({b"layout": LAYOUT})
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")  # with the layout in its schema
    return buffer.getvalue()


def ids(path: Path) -> set[str]:
    """The ids in the file; none if there is no file."""
    return set(_read(path, ["id"]).column("id").to_pylist()) if path.exists() else set()


def statuses(path: Path) -> dict[str, str]:
    """The status of every row by id."""
    if not path.exists():
        return {}
    table = _read(path, ["id", "status"])
    return dict(zip(table["id"].to_pylist(), table["status"].to_pylist(), strict=True))


def endings(path: Path) -> dict[str, tuple[str, str]]:
    """The status and the reason of every row by id."""
    if not path.exists():
        return {}
    table = _read(path, ["id", "status", "reason"])
    columns = (table[name].to_pylist() for name in ("id", "status", "reason"))
    return {i: (status, reason or "") for i, status, reason in zip(*columns, strict=True)}


def texts(path: Path, ids: Collection[str] | None = None) -> dict[str, str]:
    """The JSON of every row, or of those with these ids, by id."""
    if not path.exists():
        return {}
    table = _read(path, ["id", "row"])
    if ids is not None:
        import pyarrow as pa
        import pyarrow.compute as pc

        table = table.filter(pc.is_in(table["id"], value_set=pa.array(sorted(ids), pa.string())))
    return dict(zip(table["id"].to_pylist(), table["row"].to_pylist(), strict=True))


def frame(path: Path) -> pd.DataFrame | None:
    """The tidy columns; None if another version wrote them and they have to be made from `row`.

    So they have where the columns are not those of tidy rows, though the file says that they are.
    """
    from bench.records.tidy import COLUMNS, METRICS, NUMERIC, normalise, tidy

    if not path.exists():
        return tidy(())
    import pyarrow.parquet as pq

    try:
        schema = pq.read_schema(path)
    except Exception as error:
        raise _unreadable(path, error) from None
    types = dict(zip(schema.names, schema.types, strict=True))
    if (schema.metadata or {}).get(b"layout") != LAYOUT or not types.keys() >= {*COLUMNS, *METRICS}:
        return None
    if any(map(_is_text, (types[name] for name in NUMERIC))):
        return None
    return normalise(_read(path, [name for name in schema.names if name != "row"]).to_pandas())


def _read(path: Path, columns: list[str]) -> Table:
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path, columns=columns, partitioning=None)
    except Exception as error:  # pyarrow raises OSError, ArrowInvalid, and more by the damage
        raise _unreadable(path, error) from None
    if absent := [name for name in columns if name not in table.column_names]:
        raise UserError(f"{path} holds no rows: it has no column {absent[0]!r}; move it away")
    for name in ("id", "status", "row"):
        if name in columns and (not _is_text(table[name].type) or table[name].null_count):
            raise UserError(
                f"{path} holds no rows: its column {name!r} is not all texts; move it away"
            )
    twice = len(table) - len(table["id"].unique())
    if twice:
        raise UserError(f"{path} has {twice} ids more than once: it was not packed; move it away")
    return table


def _is_text(type_: Any) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_string(type_) or pa.types.is_large_string(type_))


def _unreadable(path: Path, error: Exception) -> UserError:
    what = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return UserError(
        f"cannot read {path}: {what}; restore it from version control, or move it away and "
        "`bench sweep` runs its cells again"
    )
