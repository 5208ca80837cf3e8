"""The longest sequence that fits into memory, in training and in inference.

From the run's length on, lengths double until one does not fit, and the gap is then halved until it
is at most TOLERANCE of the length, or LENGTH_STEP tokens. Each length is tried in a process of its
own, forked from a server that has imported everything and computed nothing: two training steps, or
one forward pass, on one batch. On a CPU the limit is one on the data of the process (RLIMIT_DATA),
on top of what it takes before it builds anything; on CUDA it is the device's memory, or a share of
it.

A search that ends for another reason than memory says which: what was found is then a length that
fits, and no longer one was found not to.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import resource
import signal
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Literal, TypeAlias, cast

import torch

from bench.catalogue import make_task
from bench.errors import UserError
from bench.measure.free_memory import free_bytes
from bench.measure.memory import STARVED
from bench.measure.metrics import Metrics
from bench.measure.step import InferenceStep, TrainingStep
from bench.process import data_bytes, die_with_parent
from bench.spec import Run
from bench.training import products
from bench.training.execute import device_of, diagnose, prepare
from tasks.data.errors import DataError

TOLERANCE = 0.05
LENGTH_STEP = 64  # tokens
LONGEST = 10**8  # tokens: the most that a run may have
MAX_TRIES = 40  # of one search: 27 doublings reach LONGEST from 1, and 5 halvings 5%

Purpose: TypeAlias = Literal["train", "infer"]
Ends: TypeAlias = Literal["memory", "task", "architecture", "time", "limit of tries"]
Outcome: TypeAlias = Literal["fits", "memory", "task", "architecture", "time", "failed"]


@dataclass(frozen=True)
class Attempt:
    """What became of one length, and why; `most` is the length that an architecture ends at."""

    outcome: Outcome
    reason: str = ""
    most: int | None = None


@dataclass(frozen=True)
class Found:
    """The longest length that fits (None: none is known), what ended the search, and why."""

    length: int | None
    ends: Ends | None
    reason: str
    n_tries: int


def measure(
    run: Run,
    *,
    memory_limit_bytes: int | None = None,
    try_seconds: float | None = None,
    total_seconds: float | None = None,
) -> Metrics:
    """The longest lengths of a run, the limit, and how the searches ended.

    Args:
        run: the cell; its length is where the search begins.
        memory_limit_bytes: what a step may take; None: as the run says, or what is free.
        try_seconds: when one length is given up; None: as the run says.
        total_seconds: when the search is; None: as the run says.
    """
    limit = memory_limit_bytes or run.measure.memory_limit_bytes
    try_seconds = try_seconds or run.measure.length_try_s
    total_seconds = total_seconds or run.measure.length_search_s
    if device_of(run).type == "cpu":
        free = free_bytes()
        if run.resources.memory_bytes is not None and limit is None:
            limit = run.resources.memory_bytes
        if limit is None:
            limit = free
        if limit is None or (free is not None and limit > free):
            wanted = "an unknown limit" if limit is None else f"the limit of {limit} bytes"
            reason = f"{wanted} is more than the {free} bytes that are free"
            return {f"longest_{purpose}_length_missing": reason for purpose in ("train", "infer")}
    metrics: Metrics = {} if limit is None else {"memory_limit_bytes": limit}
    _start_server()
    deadline = time.monotonic() + total_seconds
    start, n_tries = run.length, 0
    purposes: tuple[Purpose, ...] = ("train", "infer")
    for purpose in purposes:
        attempt = partial(_attempt, run, purpose, limit, try_seconds, deadline)
        found = search(attempt, start)
        metrics |= _told(purpose, found)
        start, n_tries = found.length or start, n_tries + found.n_tries
    return {**metrics, "longest_length_tries": n_tries}


def search(attempt: Callable[[int], Attempt], start: int, max_tries: int = MAX_TRIES) -> Found:
    """The longest length that `attempt` says fits.

    A task may have squares only: where it has no doubled length, it is asked for four times it.
    """
    fits: int | None = None
    above: int | None = None  # the shortest that memory did not allow
    refused: Attempt | None = None  # the doubled length, by the task
    ending: Attempt | None = None  # what says at which length the architecture ends
    length = start
    for n_tries in range(1, max_tries + 1):
        result = attempt(length)
        if result.outcome == "failed" or (n_tries == 1 and result.outcome in ("task", "time")):
            return Found(None, None, f"length {length}: {result.reason}", n_tries)
        if result.outcome == "fits":
            fits, refused = length, None
        elif result.outcome == "memory":
            above = length
        elif result.outcome == "architecture" and _is_between(fits, result.most, length):
            assert result.most is not None
            ending, length = result, result.most
            continue
        elif result.outcome == "task" and above is None and refused is None and fits is not None:
            refused, length = result, min(LONGEST, 4 * fits)
            continue
        else:
            return _ended(fits, result, length, n_tries)
        if ending is not None and fits == ending.most:
            return Found(fits, "architecture", ending.reason, n_tries)
        if fits == LONGEST:
            return Found(fits, "task", f"a run has at most {LONGEST} tokens", n_tries)
        if refused is not None:  # four times the length does not fit, and the task has no doubled
            return Found(fits, "task", refused.reason, n_tries)
        if fits is not None and above is not None and _is_close(fits, above):
            return Found(fits, "memory", "", n_tries)
        if above == 1:
            return Found(None, None, f"not even one token fits: {result.reason}", n_tries)
        length = _next(fits, above)
    return Found(fits, "limit of tries", f"{max_tries} lengths were tried", max_tries)


def _next(fits: int | None, above: int | None) -> int:
    """Twice what fits, half of what does not, or a multiple of LENGTH_STEP in the middle."""
    if above is None:
        assert fits is not None
        return min(LONGEST, 2 * fits)
    if fits is None:
        half = above // 2
        return half if half < LENGTH_STEP else half // LENGTH_STEP * LENGTH_STEP
    middle = (fits + above) // 2 // LENGTH_STEP * LENGTH_STEP
    return middle if middle > fits else middle + LENGTH_STEP


def _is_close(fits: int, above: int) -> bool:
    return above - fits <= max(LENGTH_STEP, TOLERANCE * fits)


def _is_between(fits: int | None, most: int | None, length: int) -> bool:
    """Whether the length at which an architecture ends is still to be tried."""
    return most is not None and (fits or 0) < most < length


def _ended(fits: int | None, result: Attempt, length: int, n_tries: int) -> Found:
    """The end of a search by something else than memory."""
    reason = f"length {length}: {result.reason}"
    if fits is None:
        return Found(None, None, reason, n_tries)
    return Found(fits, cast("Ends", result.outcome), reason, n_tries)


def _told(purpose: Purpose, found: Found) -> Metrics:
    """What was found, as metrics."""
    name = f"longest_{purpose}_length"
    if found.length is None:
        return {f"{name}_missing": found.reason or "no length that was tried fits"}
    reason = {f"{name}_reason": found.reason} if found.reason else {}
    return {name: found.length, f"{name}_ends": found.ends, **reason}


def _start_server() -> None:
    """Wait until the server has imported everything: no length has to pay for it."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    process = context.Process(target=die_with_parent)
    process.start()
    process.join()


def _attempt(
    run: Run,
    purpose: Purpose,
    limit: int | None,
    try_seconds: float,
    deadline: float,
    length: int,
) -> Attempt:
    """Try one length in a process of its own, which is dead when this returns."""
    seconds = min(try_seconds, deadline - time.monotonic())
    if seconds <= 0:
        return Attempt("time", "the time of the search is over")
    context = multiprocessing.get_context("forkserver")
    text = run.model_copy(update={"length": length}).model_dump_json()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        process = context.Process(target=_try, args=(text, purpose, limit, folder))
        process.start()
        try:
            process.join(seconds)
            late = process.exitcode is None
        finally:
            process.kill()
            process.join()
        result, log = folder / "result", folder / "log"
        if result.exists():
            return Attempt(**json.loads(result.read_text()))
        said = log.read_text(errors="replace") if log.exists() else ""
    if late:
        return Attempt("time", f"was not done after {seconds:.3g} s")
    return _death(process.exitcode, said)


def _death(code: int | None, said: str) -> Attempt:
    """What it means that a process ended without a result."""
    killed = code is not None and code < 0
    cause = f"died of {signal.Signals(-(code or 0)).name}" if killed else f"ended with {code}"
    starved = any(sign in said.lower() for sign in STARVED)
    return Attempt("memory" if starved else "failed", f"its process {cause}")


def _try(text: str, purpose: Purpose, limit: int | None, folder: Path) -> None:
    """Try a run's length in this process, and leave what became of it in the folder."""
    die_with_parent()
    log = os.open(folder / "log", os.O_WRONLY | os.O_CREAT, 0o600)
    os.dup2(log, 1)
    os.dup2(log, 2)
    run = Run.model_validate_json(text)
    torch.set_num_threads(run.resources.threads)
    told = json.dumps(asdict(attempt_here(run, purpose, limit)))
    (folder / "unfinished").write_text(told)
    (folder / "unfinished").rename(folder / "result")


def attempt_here(run: Run, purpose: Purpose, limit: int | None) -> Attempt:
    """What becomes of a run's length in this process, which is not good for anything afterwards."""
    try:
        make_task(run.task, run.length)
    except UserError as error:
        return Attempt("task", str(error))
    try:
        device = device_of(run)
        products.settle(device)
        if limit is not None:
            _limit(device, limit)
        prepared = prepare(run)
        most = prepared.model.body.max_length
        if most is not None and run.length > most:
            return Attempt("architecture", f"{run.architecture} ends at {most} tokens", most)
        try:
            prepared.batch()
        except (DataError, UserError) as error:  # real data may be too short
            return Attempt("task", str(error))
        prepared = prepared.to(device)
        step = TrainingStep(prepared) if purpose == "train" else InferenceStep(prepared)
        step()
        if purpose == "train":
            step()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
    except Exception as error:
        status, reason = diagnose(error)
        return Attempt("memory" if status == "oom" else "failed", reason)
    return Attempt("fits")


def _limit(device: torch.device, limit: int) -> None:
    """Let this process take so many bytes more, and none beyond."""
    if device.type == "cuda":
        _, total = torch.cuda.mem_get_info(device)
        torch.cuda.set_per_process_memory_fraction(min(1.0, limit / total), device)
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    wanted = data_bytes() + limit
    for other in (soft, hard):
        wanted = wanted if other == resource.RLIM_INFINITY else min(wanted, other)
    resource.setrlimit(resource.RLIMIT_DATA, (wanted, wanted))
