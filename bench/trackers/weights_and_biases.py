"""Rows as runs of Weights & Biases: https://docs.wandb.ai/ref/python. Offline unless told.

A row's id is its run's id, so that pushing again replaces a run instead of adding another, and a
cell that ran again continues where it was shown. What has been pushed is noted in the study's
`wandb/pushed.json`, and what a run that was followed at work has ended with in `wandb/followed/`:
an unchanged row is not pushed twice, one that changed is, whole. Offline, runs lie in
`wandb/offline-run-*` until `wandb sync` sends them, each whole, and so the newest of a row alone.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from bench.errors import UserError
from bench.records import files
from bench.records.row import Row
from bench.records.store import Store, canonical
from bench.study import Study
from bench.trackers import shown

FOLDER = "wandb"
NOTED = "pushed.json"
FOLLOWED = "followed"
MODE_VARIABLE = "WANDB_MODE"
OFFLINE = "offline"
PAGE_ID_PREFIX = "page-"
SYNCED = ".synced"
"""Ends the name of the file that `wandb sync` leaves beside the one that it has sent."""


@dataclass(frozen=True)
class Pushed:
    """How many rows were sent, and how many were as they had been."""

    sent: int
    unchanged: int


def load() -> ModuleType:
    """The package, if it is here.

    Raises:
        UserError: it is not.
    """
    try:
        import wandb
    except ImportError as error:
        raise UserError(
            f"Weights & Biases is not installed ({error}); pip install 'seqbench[wandb]'"
        ) from None
    module: ModuleType = wandb
    return module


def push(
    wandb: ModuleType,
    study: Study,
    store: Store,
    *,
    project: str | None = None,
    page: Path | None = None,
    again: bool = False,
) -> Pushed:
    """Push the rows of a study that have changed since they were pushed, and its page.

    `wandb` is the package, or what behaves so.
    """
    target = project or study.name
    note = _Note(store.folder, _target(target))
    common = _common(store.folder, study.name, target)
    sent = unchanged = 0
    for row in store.rows():
        digest = _digest(canonical(row))
        if not again and note.has(row.id, digest):
            unchanged += 1
            continue
        _push_row(wandb, row, common)
        note.add(row.id, digest)
        sent += 1
    if page is not None:
        digest = _digest(page.read_text(encoding="utf-8"))
        page_id = f"{PAGE_ID_PREFIX}{_digest(study.name)}"
        if again or not note.has(page_id, digest):
            _push_page(wandb, study, page, page_id, common)
            note.add(page_id, digest)
    return Pushed(sent, unchanged)


class LiveRun:
    """The run of a row that is not there yet.

    One that goes on from a checkpoint is told again what it had logged before it. Offline that
    makes its file whole, as no server can add it to the one from before, which is deleted. Online
    it is resumed, and steps that the server has are left out. The process shows no other run: when
    it ends, it waits for the package's own process, which alone makes sure that all is in the file.
    """

    def __init__(self, wandb: ModuleType, folder: Path, row: Row, continued: bool) -> None:
        self._wandb, self._folder = wandb, folder
        common = _common(folder, row.study, row.study)
        resumed = continued and common["mode"] != OFFLINE
        self._run = _begin(wandb, row, common, resume="allow" if resumed else None)
        self._first_step = self._run.starting_step if resumed else 0

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Add a point to each of some curves; those of one step are one line of the history."""
        if step >= self._first_step:
            self._run.log(dict(values), step=step)

    def end(self, row: Row) -> None:
        """Add what came out, and note that there is nothing left to push."""
        self._run.config.update(shown.configuration(row), allow_val_change=True)
        self._run.tags = (row.status,)
        _conclude(self._run, row)
        self._wandb.teardown()
        text = json.dumps({_target(row.study): _digest(canonical(row))})
        files.write_atomically(_followed(self._folder, row.id), f"{text}\n".encode())

    def leave(self) -> None:
        """Stop here; the run goes on later."""
        self._run.mark_preempting()
        self._run.finish(exit_code=1)
        self._wandb.teardown()


def _push_row(wandb: ModuleType, row: Row, common: dict[str, Any]) -> None:
    """One run: configuration, curves, and the final numbers as its summary."""
    run = _begin(wandb, row, common, tags=[row.status])
    for step, values in shown.steps(row.curves):
        run.log(values, step=step)
    _conclude(run, row)


def _begin(wandb: ModuleType, row: Row, common: dict[str, Any], **more: Any) -> Any:
    """A run of a row's id. Files of earlier ones that nobody has synced are of no use any more."""
    earlier = _unsynced(common["dir"], row.id)
    run = wandb.init(
        **common,
        id=row.id,
        name=shown.name_of(row),
        job_type=shown.purpose_of(row),
        config=shown.configuration(row),
        settings=_settings(wandb),
        **more,
    )
    for path in earlier:
        shutil.rmtree(path, ignore_errors=True)
    return run


def _conclude(run: Any, row: Row) -> None:
    run.summary.update(shown.final(row))
    run.finish(exit_code=0 if row.status == "ok" else 1)


def _common(folder: Path, study: str, project: str) -> dict[str, Any]:
    """What the runs of a study share, as arguments of `wandb.init`."""
    return {"project": project, "group": study, "dir": folder, "mode": _mode()}


def _mode() -> str:
    return os.environ.get(MODE_VARIABLE, OFFLINE)


def _target(project: str) -> str:
    """Where runs are sent."""
    return f"{_mode()} {project}"


def _unsynced(folder: Path, row_id: str) -> list[Path]:
    """The folders of offline runs of a row that `wandb sync` has not sent."""
    found = (folder / FOLDER).glob(f"{OFFLINE}-run-*-{row_id}*")
    return [path for path in found if not any(path.glob(f"*{SYNCED}"))]


def _followed(folder: Path, row_id: str) -> Path:
    """Says what a run that was followed has ended with; runs end at once, so each has its file."""
    return folder / FOLDER / FOLLOWED / f"{row_id}.json"


def _push_page(
    wandb: ModuleType, study: Study, page: Path, page_id: str, common: dict[str, Any]
) -> None:
    """The page of the study as an artifact of a run of its own."""
    run = wandb.init(
        **common,
        id=page_id,
        name=f"page of {study.name}"[: shown.MAX_NAME],
        job_type="report",
        notes=study.title,
        settings=_settings(wandb),
    )
    artifact = wandb.Artifact(f"page-{_digest(study.name)}", type="report", description=study.title)
    artifact.add_file(str(page), name="report.html")
    run.log_artifact(artifact)
    run.finish(exit_code=0)


def _settings(wandb: ModuleType) -> Any:
    """Nothing on the terminal, and nothing of this machine: the row says where it ran."""
    return wandb.Settings(
        silent=True,
        console="off",
        disable_git=True,
        save_code=False,
        x_disable_stats=True,
        x_disable_meta=True,
    )


class _Note:
    """What has been pushed where: a digest for every id, written after every push.

    What a run that was followed has noted since then takes its place.
    """

    def __init__(self, folder: Path, target: str) -> None:
        self._folder, self._target = folder, target
        self._path = folder / FOLDER / NOTED
        self._known = dict(_read(self._path))

    def has(self, name: str, digest: str) -> bool:
        pushed = self._known.get(self._target, {})
        return (_read_followed(self._folder, name, self._target) or pushed.get(name)) == digest

    def add(self, name: str, digest: str) -> None:
        self._known.setdefault(self._target, {})[name] = digest
        text = json.dumps(self._known, indent=1, sort_keys=True)
        files.write_atomically(self._path, f"{text}\n".encode())
        _followed(self._folder, name).unlink(missing_ok=True)


def _read_followed(folder: Path, row_id: str, target: str) -> str | None:
    """The digest that a followed run has noted for a target; one that cannot be read is none."""
    try:
        told = json.loads(_followed(folder, row_id).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return told.get(target) if isinstance(told, dict) else None


def _read(path: Path) -> Iterator[tuple[str, dict[str, str]]]:
    if not path.exists():
        return
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
        for target, digests in known.items():
            yield str(target), {str(name): str(digest) for name, digest in digests.items()}
    except (ValueError, AttributeError, OSError) as error:
        raise UserError(f"{path} is not what was pushed ({error}); delete it to push all") from None


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
