"""The rows of a study on disk: `rows/<id>.json`, written as runs end, and `rows.parquet`, packed.

Every reader takes either and gives the same answer. A row is written once; only `pack`, `remove`
and `set_aside` delete anything. Whatever kills a writer, each row is whole in one of the two
places, or identical in both.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from bench.errors import UserError, from_validation
from bench.records import files, packed, versions
from bench.records.row import SCHEMA_VERSION, Row, Status
from bench.records.twice import conflict
from bench.spec import ID_LENGTH, is_id

if TYPE_CHECKING:
    import pandas as pd

ROW_FIELDS = {"": list(Row.model_fields)}
HOW_TO_MEND = "move it away and `bench sweep` runs that cell again"


@dataclass(frozen=True, slots=True)
class Ending:
    """How a run ended, without the rest of its row."""

    status: str
    reason: str
    seconds: float | None = None  # that it took; unknown of packed rows and of killed runs


class _RowsEnding(BaseModel):
    """The part of a row that tells how it ended: a third of the time of reading all of it."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    schema_version: Literal[1] = 1
    id: str
    status: Status
    reason: str = ""
    provenance: dict[str, Any] = Field(default_factory=dict)


Parsed = TypeVar("Parsed", bound="Row | _RowsEnding")


class Store:
    """The rows in a study's folder."""

    def __init__(self, folder: Path) -> None:
        """Nothing is read or made before it is needed."""
        self.folder = folder
        self.live_folder = folder / "rows"
        self.packed_file = folder / "rows.parquet"
        self.aside_folder = folder / "rows.other"

    def write(self, row: Row) -> Path:
        """Leave `row` for good; a reader sees all of it or nothing."""
        path = self._live_path(row.id)
        files.write_atomically(path, f"{canonical(row)}\n".encode())
        return path

    def ids(self) -> set[str]:
        """Which runs have a row, by file names and one column: no row is parsed."""
        return {path.stem for path in self._live_files()} | packed.ids(self.packed_file)

    def has(self, row_id: str) -> bool:
        """Whether there is a live row of this id: one look at the disk, for those who wait."""
        return self._live_path(row_id).exists()

    def statuses(self) -> dict[str, str]:
        """The status of every row by id."""
        live = {row.id: str(row.status) for row in self._live_rows()}
        return packed.statuses(self.packed_file) | live

    def endings(self) -> tuple[dict[str, Ending], list[UserError]]:
        """How every run ended, by id, and what is wrong with the rows that cannot be read."""
        problems: list[UserError] = []
        live = {row.id: _ending(row) for row in self._live(self._parse_ending, None, problems)}
        try:
            known = packed.endings(self.packed_file)
        except UserError as error:
            problems.append(error)
            known = {}
        return {row_id: Ending(*one) for row_id, one in known.items()} | live, problems

    def readable(self) -> tuple[dict[str, Row], list[UserError]]:
        """Every row that can be read, by id, and what is wrong with the other live ones.

        Raises:
            UserError: the packed rows cannot be read, or a row is there twice and not the same.
        """
        problems: list[UserError] = []
        live = {row.id: row for row in self._live_rows(problems=problems)}
        texts = packed.texts(self.packed_file)
        self._check_twice(live, texts)
        where = f"{self.packed_file}: row"
        return {i: self._parse(text, f"{where} {i}") for i, text in texts.items()} | live, problems

    def rows(self, ids: Collection[str] | None = None) -> Iterator[Row]:
        """Every row, or those with these ids, sorted by id."""
        live = {row.id: row for row in self._live_rows(ids)}
        texts = packed.texts(self.packed_file, ids)
        self._check_twice(live, texts)
        for row_id in sorted(live.keys() | texts.keys()):
            if row_id in live:
                yield live[row_id]
            else:
                yield self._parse(texts[row_id], f"{self.packed_file}: row {row_id}")

    def frame(self) -> pd.DataFrame:
        """Every row as one line of the tidy table, sorted by id."""
        from bench.records.tidy import join, tidy

        # The live rows first: one that is packed meanwhile is then seen twice rather than never.
        live = {row.id: row for row in self._live_rows()}
        frame = packed.frame(self.packed_file)
        if frame is None:
            texts = packed.texts(self.packed_file)
            frame = tidy(self._parse(text, f"{self.packed_file}: {i}") for i, text in texts.items())
        twice = live.keys() & set(frame["id"].tolist()) if live else set()
        if twice:
            self._check_twice(live, packed.texts(self.packed_file, twice))
        return join(frame, tidy(row for row in live.values() if row.id not in twice))

    def pack(self) -> int:
        """Move all live rows into the Parquet file; the answer is how many were moved.

        The same rows give the same bytes, whenever and in however many steps they were packed.
        """
        if not self.live_folder.is_dir():
            return 0
        with files.exclusive(self.folder):
            files.remove_partial_files(self.live_folder)
            files.remove_partial_files(self.folder)
            live = {row.id: row for row in self._live_rows()}
            if live:
                texts = packed.texts(self.packed_file)
                self._check_twice(live, texts)
                self._write_packed(texts | {row_id: canonical(row) for row_id, row in live.items()})
                self._unlink_live(live)
            return len(live)

    def add(self, rows: Mapping[str, Row], origin: str) -> int:
        """Put rows, by id, into the Parquet file; the answer is how many were not there before.

        All of them at once: whoever kills this leaves the file as it was.

        Raises:
            UserError: another row of the same id is there; `origin` is where the new one is from.
        """
        with files.exclusive(self.folder):
            known, _ = self.readable()
            for row_id in sorted(rows.keys() & known.keys()):
                if rows[row_id] != known[row_id]:
                    raise conflict(known[row_id], str(self.folder), rows[row_id], origin)
            new = {i: canonical(row) for i, row in rows.items() if i not in known}
            if new:
                self._write_packed(packed.texts(self.packed_file) | new)
            return len(new)

    def remove(self, ids: Collection[str]) -> int:
        """Delete these rows, so that their runs are missing; the answer is how many there were."""
        return self._take_out(set(ids), keep=False)

    def set_aside(self, ids: Collection[str]) -> int:
        """Move these rows to `rows.other/`, where no reader looks."""
        return self._take_out(set(ids), keep=True)

    def _take_out(self, ids: set[str], *, keep: bool) -> int:
        found = ids & self.ids()
        if not found:
            return 0
        with files.exclusive(self.folder):
            texts = packed.texts(self.packed_file)
            live = {path.stem for path in self._live_files()} & found
            if keep:
                kept = {row_id: text for row_id, text in texts.items() if row_id in found}
                kept |= {i: self._read(self._live_path(i)).strip() for i in live}
                for row_id, text in kept.items():
                    files.write_atomically(self._free_place(row_id, text), f"{text}\n".encode())
            if found & texts.keys():
                self._write_packed({i: text for i, text in texts.items() if i not in found})
            self._unlink_live(live)
        return len(found)

    def _free_place(self, row_id: str, text: str) -> Path:
        """A path in `rows.other/` that holds no other row."""
        path, count = self.aside_folder / f"{row_id}.json", 1
        while path.exists() and self._read(path).strip() != text:
            count += 1
            path = self.aside_folder / f"{row_id}.{count}.json"
        return path

    def _write_packed(self, texts: dict[str, str]) -> None:
        from bench.records.tidy import tidy

        rows = [self._parse(texts[row_id], f"row {row_id}") for row_id in sorted(texts)]
        content = packed.encode(tidy(rows), [texts[row.id] for row in rows])
        files.write_atomically(self.packed_file, content)

    def _unlink_live(self, ids: Collection[str]) -> None:
        try:
            for row_id in ids:
                self._live_path(row_id).unlink(missing_ok=True)
        except OSError as error:
            raise UserError(f"cannot delete from {self.live_folder}: {error.strerror}") from None

    def _live_path(self, row_id: str) -> Path:
        return self.live_folder / f"{row_id}.json"

    def _live_files(self, problems: list[UserError] | None = None) -> list[Path]:
        """The row files; hidden ones are partial files, or belong to the file system.

        What is none of these is an error, or goes to `problems`.
        """
        try:
            paths = files.patiently(self._listed)
        except OSError as error:
            raise UserError(f"cannot read {self.live_folder}: {error.strerror}") from None
        paths = [path for path in paths if not path.name.startswith(".")]
        found = [path for path in paths if path.suffix == ".json" and is_id(path.stem)]
        for path in sorted(set(paths) - set(found)):
            _note(
                UserError(
                    f"{path} is no row: rows are named <id>.json, an id being {ID_LENGTH} hex "
                    "digits; move it out of rows/"
                ),
                problems,
            )
        return found

    def _listed(self) -> list[Path]:
        return sorted(self.live_folder.iterdir()) if self.live_folder.exists() else []

    def _live_rows(
        self, ids: Collection[str] | None = None, problems: list[UserError] | None = None
    ) -> Iterator[Row]:
        return self._live(self._parse, ids, problems)

    def _live(
        self,
        parse: Callable[[str, str], Parsed],
        ids: Collection[str] | None,
        problems: list[UserError] | None,
    ) -> Iterator[Parsed]:
        paths = self._live_files(problems) if ids is None else map(self._live_path, sorted(ids))
        for path in paths:
            try:
                row = parse(self._read(path), str(path))
                if row.id != path.stem:
                    raise UserError(f"{path} holds the row {row.id}, not its own; {HOW_TO_MEND}")
            except FileNotFoundError:
                continue  # not a live one, or packed since we listed the folder
            except UserError as error:
                _note(error, problems)
            else:
                yield row

    def _read(self, path: Path) -> str:
        try:
            return files.patiently(lambda: path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise
        except OSError as error:
            raise UserError(f"cannot read {path}: {error.strerror}") from None
        except UnicodeDecodeError as error:
            raise UserError(f"{path} is no row: {error}; {HOW_TO_MEND}") from None

    def _parse(self, text: str, where: str) -> Row:
        try:
            return Row.model_validate_json(text)
        except ValidationError as error:
            older = versions.lifted(text)
            if older is None:
                raise _explain(error, text, where) from None
        try:
            return Row.model_validate(older)
        except ValidationError as error:
            raise _explain(error, json.dumps(older), where) from None

    def _parse_ending(self, text: str, where: str) -> Row | _RowsEnding:
        """Only what an ending needs: whether the rest is whole is for those who read it."""
        try:
            return _RowsEnding.model_validate_json(text)
        except ValidationError:
            return self._parse(text, where)

    def _check_twice(self, live: Mapping[str, Row], texts: Mapping[str, str]) -> None:
        """Raise if a row is in both places with different content.

        Identical is what a kill between the two steps of `pack` leaves, and the next `pack` mends.
        """
        for row_id in sorted(live.keys() & texts.keys()):
            if canonical(live[row_id]) == texts[row_id]:
                continue
            where = f"{self.packed_file}: row {row_id}"
            kept = self._parse(texts[row_id], where)  # it may be of another version
            if live[row_id] != kept:
                place = str(self._live_path(row_id))
                error = conflict(live[row_id], place, kept, str(self.packed_file))
                raise UserError(f"{error}; delete the live one to keep the packed one")


def canonical(row: Row) -> str:
    """The one JSON text of a row: keys sorted, no spaces, one line."""
    return json.dumps(
        row.model_dump(mode="json"),
        sort_keys=True,
        separators=(",", ":"),
        ensure_ascii=False,
        allow_nan=False,
    )


def _ending(row: Row | _RowsEnding) -> Ending:
    seconds = row.provenance.get("seconds")
    return Ending(row.status, row.reason, seconds if isinstance(seconds, int | float) else None)


def _note(error: UserError, problems: list[UserError] | None) -> None:
    if problems is None:
        raise error
    problems.append(error)


def _explain(error: ValidationError, text: str, where: str) -> UserError:
    """Say in one line whether it is truncated, of another version, or no row at all."""
    try:
        data = json.loads(text)
    except ValueError as syntax:
        what = "empty" if not text.strip() else f"not whole JSON ({syntax})"
        return UserError(f"{where} is {what}: no row; {HOW_TO_MEND}")
    except RecursionError:
        return UserError(f"{where} is nested too deeply: no row; {HOW_TO_MEND}")
    version = data.get("schema_version", 1) if isinstance(data, dict) else None
    if version is None:
        return UserError(f"{where} is no row but a JSON {type(data).__name__}; {HOW_TO_MEND}")
    if version != SCHEMA_VERSION:
        return UserError(
            f"{where} has schema_version {version!r}, this seqbench reads {SCHEMA_VERSION}; "
            "read it with the seqbench that wrote it"
        )
    return UserError(f"{from_validation(error, where, ROW_FIELDS)}; {HOW_TO_MEND}")
