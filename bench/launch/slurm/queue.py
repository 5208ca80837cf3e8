"""What Slurm says of its queue and itself. Every command may be missing, fail or hang.

The queue is a hint: the truth about a cell is its row. So nothing here raises; what could not be
asked is None or empty, and `Live.problem` says why.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

ASK_S = 20.0
"""How long a command of Slurm may take; a busy controller needs some seconds."""

State: TypeAlias = Literal["pending", "running", "completing", "requeued"]

ENDED = frozenset(
    (
        *("BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL"),
        *("OUT_OF_MEMORY", "PREEMPTED", "REVOKED", "TIMEOUT"),
    )
)
REQUEUED = frozenset(("REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "SPECIAL_EXIT"))
FIELDS = (
    *(("ArrayJobID", 20), ("ArrayTaskID", 20), ("State", 20), ("RestartCnt", 12)),
    *(("NodeList", 200), ("Reason", 60)),
)
"""What squeue prints of a task, and in how many columns; it cuts off what is longer."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a command printed, or why there is nothing."""

    output: str
    problem: str = ""  # the command's own words where it has any


@dataclass(frozen=True, slots=True)
class Task:
    """A job, or one task of a job array, that Slurm has not ended yet."""

    job_id: int  # of the whole array
    index: int | None  # in the array; None: the job is no array
    state: State
    reason: str = ""  # why it waits, in Slurm's word: Resources, Priority, BeginTime, ...
    restarts: int = 0
    nodes: str = ""


@dataclass(frozen=True, slots=True)
class Live:
    """The tasks that are not ended; with a problem, nobody knows."""

    tasks: tuple[Task, ...] = ()
    problem: str = ""

    def indices(self, job_id: int) -> set[int]:
        """Which tasks of a job array are alive."""
        return {t.index for t in self.tasks if t.job_id == job_id and t.index is not None}


def ask(
    words: Sequence[str],
    *,
    text: str | None = None,
    timeout_s: float = ASK_S,
    cwd: str | None = None,
) -> Answer:
    """Run a command of Slurm, `text` being its input; no shell is between."""
    # What the user has set for squeue in his shell would filter or change what we read.
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("SQUEUE_", "SACCT_"))}
    environment |= {"LC_ALL": "C.UTF-8", "SLURM_BITSTR_LEN": "0"}
    try:
        done = subprocess.run(
            list(words),
            input=text,
            stdin=None if text is not None else subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="backslashreplace",
            env=environment,
            timeout=timeout_s,
            cwd=cwd,
        )
    except FileNotFoundError:
        return Answer("", f"{words[0]} is not on the PATH")
    except subprocess.TimeoutExpired:
        return Answer("", f"{words[0]} did not answer in {timeout_s:g} s")
    except (OSError, ValueError) as error:
        return Answer("", f"{words[0]}: {error}")
    if done.returncode:
        said = " ".join(f"{done.stderr} {done.stdout}".split())
        return Answer(done.stdout, said or f"{words[0]} ended with exit code {done.returncode}")
    return Answer(done.stdout)


def live_tasks(job_ids: Collection[int]) -> Live:
    """The tasks of these jobs that wait, run or come to their end."""
    if not job_ids:
        return Live()
    ids = ",".join(map(str, sorted(job_ids)))
    columns = ",".join(f"{name}:{size}" for name, size in FIELDS)
    found = ask(["squeue", "--noheader", "--array", f"--jobs={ids}", f"--Format={columns}"])
    if "Invalid job id" in found.problem:  # asked for one job alone, which Slurm has forgotten
        return Live()
    if found.problem:
        return Live(problem=found.problem)
    tasks = (task for line in found.output.splitlines() for task in _tasks(line))
    return Live(tuple(task for task in tasks if task.job_id in job_ids))


def max_array_size() -> int | None:
    """One more than the largest index of a job array, as the cluster has it."""
    matched = re.search(
        r"^MaxArraySize\s*=\s*(\d+)", ask(["scontrol", "show", "config"]).output, re.M
    )
    return int(matched[1]) if matched else None


def expand(indices: str) -> Iterator[int]:
    """The numbers of an index expression: `[4-9%2]` are 4 to 9, `1,3-7:2` are 1, 3, 5, 7."""
    for part in indices.strip("[]").partition("%")[0].split(","):
        matched = re.fullmatch(r"(\d+)(?:-(\d+)(?::(\d+))?)?", part.strip())
        if matched:
            first, last, step = (
                None if digits is None else int(digits) for digits in matched.groups()
            )
            assert first is not None
            yield from range(first, (first if last is None else last) + 1, step or 1)


def _tasks(line: str) -> Iterator[Task]:
    """The tasks of a line of squeue; none if it is of another kind."""
    words, start = [], 0
    for _, size in FIELDS:
        words.append(line[start : start + size].strip())
        start += size
    job, indices, state, restarts, nodes, reason = words
    if not job.isdecimal() or not state or state in ENDED:
        return
    n_restarts = int(restarts) if restarts.isdecimal() else 0
    whole = indices in ("", "N/A")
    for index in [None] if whole else expand(indices):
        yield Task(
            job_id=int(job),
            index=index,
            state=_state(state, n_restarts),
            reason="" if reason == "None" else reason,
            restarts=n_restarts,
            nodes=nodes,
        )


def _state(word: str, restarts: int) -> State:
    if word in REQUEUED or (word == "PENDING" and restarts):
        return "requeued"
    if word == "PENDING":
        return "pending"
    return "completing" if word == "COMPLETING" else "running"
