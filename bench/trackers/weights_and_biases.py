"""Rows as runs of Weights & Biases: https://docs.wandb.ai/ref/python. Offline unless told.

A row's id is its run's id, so that pushing again replaces a run instead of adding another, and a
cell that ran again continues where it was shown. What has been pushed is noted in the study's
`wandb/pushed.json`: an unchanged row is not pushed twice, one that changed is, whole. Offline, runs
lie in `wandb/offline-run-*` until `wandb sync` sends them.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
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
MODE_VARIABLE = "WANDB_MODE"
OFFLINE = "offline"
PAGE_ID_PREFIX = "page-"


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
    mode = os.environ.get(MODE_VARIABLE, OFFLINE)
    target = project or study.name
    note = _Note(store.folder / FOLDER / NOTED, f"{mode} {target}")
    common = {"project": target, "group": study.name, "dir": store.folder, "mode": mode}
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


def _push_row(wandb: ModuleType, row: Row, common: dict[str, Any]) -> None:
    """One run: configuration, curves, and the final numbers as its summary."""
    run = wandb.init(
        **common,
        id=row.id,
        name=shown.name_of(row),
        job_type=shown.purpose_of(row),
        tags=[row.status],
        config=shown.configuration(row),
        settings=_settings(wandb),
    )
    for step, values in shown.steps(row):
        run.log(values, step=step)
    run.summary.update(shown.final(row))
    run.finish(exit_code=0 if row.status == "ok" else 1)


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
    """What has been pushed where: a digest for every id, written after every push."""

    def __init__(self, path: Path, target: str) -> None:
        self._path, self._target = path, target
        self._known = dict(_read(path))

    def has(self, name: str, digest: str) -> bool:
        return self._known.get(self._target, {}).get(name) == digest

    def add(self, name: str, digest: str) -> None:
        self._known.setdefault(self._target, {})[name] = digest
        text = json.dumps(self._known, indent=1, sort_keys=True)
        files.write_atomically(self._path, f"{text}\n".encode())


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
