"""Where a row comes from: the code, the versions, the machine. Knows nothing of torch."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from bench.plugins import named
from bench.spec import Run

PACKAGES = ("seqbench", "torch", "lightning", "transformers", "numpy", "mamba-ssm")
CODE = ("architectures", "tasks", "bench", "pyproject.toml")
"""What decides a result. A changed table does not make the code dirty."""

REPOSITORY = Path(__file__).resolve().parents[2]


def provenance() -> dict[str, Any]:
    """What is the same for every run of this process."""
    return {
        "git_commit": _git("rev-parse", "HEAD"),
        "git_dirty": _dirty(),
        "python": platform.python_version(),
        "versions": {name: version for name in PACKAGES if (version := _version(name))},
        "system": f"{platform.system()} {platform.release()}",
        "host": platform.node(),
        "processor": processor(),
        "cores": cores(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "slurm_job_id": slurm_job_id(),
        "requeues": requeues(),
        "world_size": 1,
    }


def with_packages(provenance: Mapping[str, Any], run: Run) -> dict[str, Any]:
    """The same, with the other packages whose architectures or tasks the run names.

    A body inside of another one counts: its name stands somewhere in the options.
    """
    others = [*named("architectures", run.architecture), *named("tasks", run.task)]
    if not others:
        return dict(provenance)
    versions = {key: value for entry in others for key, value in entry.versions.items()}
    return {
        **provenance,
        "versions": {**provenance.get("versions", {}), **versions},
        "packages": {f"{entry.kind} {entry.name}": entry.source for entry in others},
    }


def slurm_job_id() -> str | None:
    """The job that this process belongs to: `12`, or `12_3` for a task of an array."""
    array, task = (os.environ.get(f"SLURM_ARRAY_{key}_ID") for key in ("JOB", "TASK"))
    return f"{array}_{task}" if array and task else os.environ.get("SLURM_JOB_ID")


def requeues() -> int:
    """How often Slurm has started this job again; 0 where there is none."""
    return int(os.environ.get("SLURM_RESTART_COUNT", "0"))


def cores() -> int:
    """Processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1  # systems that do not tell


def _git(*words: str) -> str | None:
    """What git says of the checkout; None where the code is no checkout or git is missing."""
    if not (REPOSITORY / ".git").exists():
        return None
    try:
        done = subprocess.run(
            ["git", "-C", str(REPOSITORY), *words], capture_output=True, text=True, timeout=20
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _dirty() -> bool | None:
    changes = _git("status", "--porcelain", "--", *CODE)
    return None if changes is None else bool(changes)


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def processor() -> str:
    """The processor's name, its family and model where the name says nothing."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    fields = {key.strip(): value.strip() for key, _, value in (x.partition(":") for x in lines)}
    name = fields.get("model name", platform.machine())
    return f"{name} (family {fields.get('cpu family', '?')} model {fields.get('model', '?')})"
