"""A profile: what this cluster wants to be told, `slurm/<name>.yaml`; slurm/README.md explains it.

Values go into a batch script. So each is one line, and those that stand in `#SBATCH` lines have no
sign that Slurm's reader or a shell would take for its own.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, TypeAlias

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError, model_validator

from bench import plain_yaml
from bench.errors import UserError, from_validation, unknown
from bench.spec import Spec, keys_of

PROFILES = Path("slurm")
"""Where names of profiles are looked up: in this folder of the current one, or of the checkout."""
CHECKOUT = Path(__file__).resolve().parents[3]

OURS = frozenset(
    (
        *("array", "begin", "chdir", "dependency", "error", "job-name", "no-requeue", "nodes"),
        *("ntasks", "ntasks-per-node", "open-mode", "output", "parsable", "requeue", "signal"),
        *("test-only", "wait", "wrap"),
    )
)
"""Options of sbatch that the launcher sets itself."""
KEYS_OF_FLAGS = {
    "partition": "partition",
    "account": "account",
    "qos": "qos",
    "time": "time",
    "gres": "gres",
    "gpus": "gpus",
    "cpus-per-task": "cpus",
    "mem": "memory",
    "constraint": "constraint",
    "exclusive": "exclusive",
}
"""Options of sbatch that have a key of their own."""
SIZES = {"K": 1, "M": 2, "G": 3, "T": 4}


def _one_line(text: str) -> str:
    if not text.isprintable():
        raise ValueError("has a line break, or another sign that cannot be printed")
    return text


def _word(text: str) -> str:
    """Text that stands bare in an `#SBATCH` line."""
    if not re.fullmatch(r"[^\s\"'\\#;`$]+", _one_line(text)):
        raise ValueError("may have no space, quote, backslash, or any of # ; ` $")
    if "hetjob" in text.lower() or "packjob" in text.lower():
        raise ValueError("has a word that ends sbatch's reading of the script")
    return text


def _duration(text: object) -> object:
    if isinstance(text, int) and not isinstance(text, bool):
        return str(text)  # minutes
    if isinstance(text, str):
        seconds(text)
    return text


def seconds(duration: str) -> int:
    """Slurm's notation of a time in seconds: `30`, `30:00`, `04:00:00`, `2-12`, `2-12:00:00`.

    Raises:
        ValueError: it is none.
    """
    matched = re.fullmatch(r"(?:(\d{1,4})-)?(\d{1,6})(?::(\d\d))?(?::(\d\d))?", duration)
    if not matched:
        raise ValueError("has to be minutes, hours:minutes:seconds or days-hours:minutes:seconds")
    days, *parts = ([] if part is None else [int(part)] for part in matched.groups())
    numbers = [number for part in parts for number in part]
    # days-hours[:minutes[:seconds]], hours:minutes:seconds, or minutes[:seconds]
    scale = (3600, 60, 1) if days or len(numbers) == 3 else (60, 1)
    total = sum(n * factor for n, factor in zip(numbers, scale, strict=False))
    total += 86_400 * sum(days)
    if total < 1:
        raise ValueError("is no time at all")
    return total


def _memory(text: object) -> object:
    if isinstance(text, int) and not isinstance(text, bool):
        return text
    matched = re.fullmatch(r"(\d{1,9}(?:\.\d+)?) ?([KMGT])(?:i?B)?", str(text))
    if not matched:
        raise ValueError("has to be a size: 4GiB, 16G, 500M")
    return int(float(matched[1]) * 1024 ** SIZES[matched[2]])


def _flag(text: str) -> str:
    matched = re.fullmatch(r"--([a-z][a-z0-9-]*)(=.*)?", _one_line(text))
    if not matched:
        raise ValueError("has to be a long option of sbatch: --name or --name=value")
    name, value = matched[1], matched[2] or ""
    if name in OURS:
        raise ValueError(f"--{name} is the launcher's own")
    if name in KEYS_OF_FLAGS:
        raise ValueError(f"--{name} has a key: {KEYS_OF_FLAGS[name]}")
    if "hetjob" in value.lower() or "packjob" in value.lower():
        raise ValueError("has a word that ends sbatch's reading of the script")
    return text


def _name(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", text):
        raise ValueError("is no name of a variable")
    return text


def _text(value: object) -> object:
    """YAML reads `OMP_NUM_THREADS: 1` as a number."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return str(value) if is_number else value


def _words(value: object) -> object:
    return shlex.split(value) if isinstance(value, str) else value


Line: TypeAlias = Annotated[str, AfterValidator(_one_line), Field(min_length=1)]
Word: TypeAlias = Annotated[str, BeforeValidator(_text), AfterValidator(_word)]
Duration: TypeAlias = Annotated[str, BeforeValidator(_duration)]
Memory: TypeAlias = Annotated[int, BeforeValidator(_memory), Field(ge=2**20)]
Flag: TypeAlias = Annotated[str, AfterValidator(_flag)]
Name: TypeAlias = Annotated[str, AfterValidator(_name)]
Value: TypeAlias = Annotated[str, BeforeValidator(_text), AfterValidator(_one_line)]
Command: TypeAlias = Annotated[tuple[Line, ...], BeforeValidator(_words)]


class Profile(Spec):
    """How jobs are submitted to one cluster."""

    partition: Word | None = None  # None: the cluster's default
    account: Word | None = None
    qos: Word | None = None
    constraint: Word | None = None
    time: Duration = "04:00:00"  # of one job; a cell that takes longer goes on in the next
    gpus: Word | None = None  # `any`, or a type: each process of a cell gets one
    gres: Word | None = None  # what else a node has to have
    cpus: int = Field(1, ge=1, le=1024)  # of each process; at least resources.threads
    memory: Memory | None = None  # bytes of each node, where cells do not say; None: the default
    exclusive: bool = False  # nobody else on the nodes; always so for cells that measure
    modules: tuple[Word, ...] = ()
    container: Command = ()  # what stands before the command: apptainer exec image.sif
    python: Line | None = None  # None: the one that submits
    environment: dict[Name, Value] = Field(default_factory=dict)
    setup: tuple[Line, ...] = ()  # lines of bash
    throttle: int | None = Field(None, ge=1)  # jobs of an array that run at once
    target_minutes: float = Field(30.0, gt=0)  # how long a job of packed cells should run
    warning_s: int = Field(120, ge=1, le=65_535)  # before the end, when checkpoints are written
    max_requeues: int = Field(20, ge=0)
    shared_folders: bool = False  # all nodes see every folder, whatever it looks like from here
    flags: tuple[Flag, ...] = ()  # further options of sbatch

    @model_validator(mode="after")
    def _consistent(self) -> Profile:
        if self.time_s <= self.warning_s:
            raise ValueError(
                f"warning_s {self.warning_s} must be less than time, {self.time_s} seconds"
            )
        if self.gpus is not None and not re.fullmatch(r"[\w.-]+", self.gpus):
            raise ValueError(f"gpus has to be `any` or the type alone, not {self.gpus!r}")
        if self.gpus and self.gres and re.search(r"(^|,)(gres/)?gpu\b", self.gres):
            raise ValueError("gpus and gres both ask for GPUs: give gpus")
        return self

    @property
    def time_s(self) -> int:
        """The limit of one job."""
        return seconds(self.time)


PROFILE_KEYS = keys_of(Profile)


def load(name: str) -> Profile:
    """The profile of this name, or in this file.

    Raises:
        UserError: there is none, or it says what no profile can.
    """
    file = _file(name)
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {file}: {error}") from None
    given = plain_yaml.parse(text, str(file))
    if not isinstance(given, Mapping):
        raise UserError(f"{file} has to be a mapping with the keys {', '.join(PROFILE_KEYS[''])}")
    try:
        return Profile.model_validate(given)
    except ValidationError as error:
        raise from_validation(error, str(file), PROFILE_KEYS) from None


def _file(name: str) -> Path:
    path = Path(name)
    if path.suffix in (".yaml", ".yml") or len(path.parts) > 1:
        if not path.is_file():
            raise UserError(f"no profile at {name!r}: there is no such file")
        return path
    folders = [PROFILES, CHECKOUT / PROFILES]
    for folder in folders:
        if (file := folder / f"{name}.yaml").is_file():
            return file
    found = {file.stem for folder in folders if folder.is_dir() for file in folder.glob("*.yaml")}
    raise unknown("profile", name, found)
