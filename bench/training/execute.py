"""One run from its spec to its row, whatever happens on the way."""

from __future__ import annotations

import os
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from architectures.body import Body, UnsupportedError, state_bytes
from architectures.kernels import paths
from architectures.kernels.native import library
from bench.catalogue import body_options, make_body, make_task
from bench.errors import UserError
from bench.records.provenance import with_packages
from bench.records.row import Row, Scored, Status
from bench.spec import Run
from bench.trackers.follow import Follower, Followers
from bench.training import products
from bench.training.budget import width_of
from bench.training.checkpoint import Checkpoints
from bench.training.fit import fit
from bench.training.model import SequenceModel, count_parameters, make_model
from bench.training.module import DivergedError
from bench.training.precision import lowering, whole_dtype
from tasks.data.errors import DataError
from tasks.task import Batch, MissingPackageError, Task, Tokens

LOG_LINES = 30
"""Lines of the traceback that a row keeps."""


@dataclass(frozen=True)
class Prepared:
    """A run with its task and its model, ready to train or to be measured."""

    run: Run
    task: Task
    model: SequenceModel

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return next(self.model.parameters()).device

    def to(self, device: torch.device) -> Prepared:
        """The same with its model on a device."""
        return replace(self, model=self.model.to(device))

    def batch(self) -> Batch:
        """The first training batch, on the model's device."""
        size = self.run.training.sequences(self.run.length)
        indices = torch.arange(size)
        available = self.task.size("train")
        if available is not None:
            indices %= available
        return self.task.examples("train", self.run.seed, indices).to(self.device)


def device_of(run: Run) -> torch.device:
    """The device that a run asks for."""
    if run.resources.accelerator == "cpu":
        return torch.device("cpu")
    if run.resources.accelerator == "cuda" and not torch.cuda.is_available():
        raise UnsupportedError("accelerator is cuda, and no CUDA device is visible")
    if not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))  # each rank has its own


def prepare(run: Run) -> Prepared:
    """Build task and model; the weights depend on the seed alone.

    Raises:
        UnsupportedError: this architecture cannot do this task, or not at all what is asked.
        UserError: an unknown name or option, or a parameter budget that no width meets.
    """
    task = make_task(run.task, run.length)
    width = width_of(run, task)
    torch.manual_seed(run.seed)
    model = make_model(make_body(run.architecture, width), task)
    _refuse_unsupported(run, task, model.body)
    return Prepared(run, task, model)


def execute(
    run: Run,
    study: str,
    provenance: Mapping[str, Any],
    checkpoint_folder: Path | None = None,
    followers: Followers | None = None,
) -> Row:
    """Train a run; what goes wrong becomes the row's status and reason.

    With a folder, it goes on from the newest checkpoint there, and makes others. `followers` are
    told of the run while it trains; that it has ended or leaves is the caller's to tell.

    Raises:
        Interrupted: a signal asked this process to leave.
    """
    outcome = Outcome(run, study, {**provenance, "continued": 0})
    checkpoints = None
    if checkpoint_folder is not None:
        checkpoints = Checkpoints(checkpoint_folder, with_packages(provenance, run))

    def begin(continued: bool) -> Sequence[Follower]:
        return () if followers is None else followers.begin(outcome.row(), continued)

    with outcome.recorded():
        device = device_of(run)
        outcome.settle(device)
        prepared = prepare(run).to(device)
        outcome.describe(prepared)
        trained = fit(run, prepared.task, prepared.model, checkpoints, begin)
        outcome.add_metrics(trained.metrics)
        outcome.add_metrics({"state_bytes": measured_state_bytes(prepared)})
        outcome.known["curves"] = trained.curves
    if checkpoints is not None:
        outcome.provenance["continued"] = checkpoints.continued
    return outcome.row()


class Outcome:
    """What is known of a run so far, and how it ended."""

    def __init__(self, run: Run, study: str, provenance: Mapping[str, Any]) -> None:
        self.run, self.study, self.provenance = run, study, dict(provenance)
        self.known: dict[str, Any] = {}
        self.status: Status = "ok"
        self.reason = self.log_tail = ""
        self._begun_unix_s = time.time()
        self._begun = time.perf_counter()

    @contextmanager
    def recorded(self) -> Iterator[None]:
        """Take down an exception instead of passing it on."""
        try:
            yield
        except Exception as error:
            self.status, self.reason = diagnose(error)
            if self.status != "unsupported":
                self.log_tail = tail(traceback.format_exc())

    def end(self, status: Status, reason: str, log_tail: str = "") -> None:
        """Say how the run ended, where no exception did."""
        self.status, self.reason, self.log_tail = status, reason, log_tail

    def settle(self, device: torch.device) -> None:
        """Choose how this process computes, before it computes anything."""
        self.provenance["products"] = products.settle(device)

    def describe(self, prepared: Prepared) -> None:
        """Take down what is known of the run before it starts; its model is cast as it will be.

        The kernel is what runs in the run's precision, on padded sequences if the task has them.
        """
        run, model = self.run, prepared.model.to(whole_dtype(self.run.training.precision))
        first = prepared.task.examples("train", run.seed, torch.arange(1))
        with lowering(run.training.precision, prepared.device):
            found = model.body.kernel_paths(padded=first.lengths is not None)
        self.provenance["kernel_paths"] = found
        self.known = {**described(prepared), "kernel": paths.name_of(found)}

    def add_metrics(self, metrics: Mapping[str, float | int | str | None]) -> None:
        """Add to the row's metrics."""
        self.known["metrics"] = {**self.known.get("metrics", {}), **metrics}

    def row(self) -> Row:
        """The row, as of now."""
        return Row(
            id=self.run.id,
            study=self.study,
            status=self.status,
            reason=self.reason,
            log_tail=self.log_tail,
            run=self.run.model_dump(mode="json"),
            provenance={
                **with_packages(self.provenance, self.run),
                **device_provenance(),
                "started_at_unix_s": round(self._begun_unix_s, 3),
                "seconds": round(time.perf_counter() - self._begun, 3),
            },
            **self.known,
        )


def described(prepared: Prepared) -> dict[str, Any]:
    """What is known of a run before it starts, as fields of its row."""
    run, task, model = prepared.run, prepared.task, prepared.model
    primary = task.metrics[0]
    parameters = count_parameters(model)
    counted = count_parameters(model.body) if run.params_of == "body" else parameters
    return {
        "resolved": {
            "architecture": body_options(run.architecture),
            "task": task.options(),
            "width": model.body.width,
            "batch_size": run.training.sequences(run.length),
            "data_fingerprint": task.fingerprint(),
        },
        "scored": Scored(
            metric=primary.name,
            unit=primary.unit,
            higher_is_better=primary.higher_is_better,
            chance=primary.chance,
            baseline=primary.baseline,
            baseline_rule=primary.baseline_rule,
        ),
        "metrics": {
            "parameters": parameters,
            "body_parameters": count_parameters(model.body),
            "budget_miss": None if run.params is None else counted / run.params - 1.0,
            "width": model.body.width,
            "flops_per_token": model.body.flops_per_token(run.length),
        },
    }


def measured_state_bytes(prepared: Prepared) -> int:
    """Bytes of the state that one sequence leaves after the run's length, measured."""
    body, inputs = prepared.model.body, prepared.task.inputs
    shape = (1, prepared.run.length)
    dtype = next(prepared.model.parameters()).dtype
    with torch.no_grad():
        if isinstance(inputs, Tokens):
            tokens = torch.zeros(shape, dtype=torch.long, device=prepared.device)
        else:
            tokens = torch.zeros(*shape, inputs.channels, device=prepared.device, dtype=dtype)
        state = body.encode(prepared.model.embedding(tokens))
    return state_bytes(state)


def diagnose(error: BaseException) -> tuple[Status, str]:
    """The status and the one-line reason that an exception stands for."""
    reason = f"{type(error).__name__}: {error}".strip().replace("\n", " ")[:500]
    match error:
        case UnsupportedError():
            return "unsupported", str(error)
        case DivergedError():
            return "diverged", str(error)
        case MissingPackageError() | DataError() | UserError():
            return "failed", str(error)
        case MemoryError() | torch.OutOfMemoryError():
            return "oom", reason
        case RuntimeError() if _out_of_memory(str(error)):
            return "oom", reason
    return "failed", reason


def tail(text: str) -> str:
    """The last lines of a log."""
    return "\n".join(text.rstrip().splitlines()[-LOG_LINES:])


def device_provenance() -> dict[str, Any]:
    """The accelerator of this process, and how it computes."""
    cuda = torch.cuda.is_available() and torch.cuda.is_initialized()
    return {
        "device": torch.cuda.get_device_name() if cuda else "cpu",
        "threads": torch.get_num_threads(),
        "native_kernels_missing": library.reasons(),
        "float32_matmul_precision": products.float32_matmul_precision(),
    }


def _refuse_unsupported(run: Run, task: Task, body: Body) -> None:
    if task.causal_only and not body.causal:
        raise UnsupportedError(f"{run.architecture} reads ahead, and {run.task} asks what comes")
    if task.kind == "seq2seq" and not body.decodes:
        raise UnsupportedError(
            f"{run.architecture} reads ahead and cannot write an answer: "
            "make it the encoder of an encoder_decoder"
        )
    if device_of(run).type == "cpu":
        if run.resources.strategy == "fsdp":
            raise UnsupportedError("strategy fsdp needs CUDA devices")
        if run.training.precision == "16-mixed":
            raise UnsupportedError("precision 16-mixed needs CUDA: a CPU would take bf16 for it")
    if run.training.tbptt_window is None:
        return
    if not body.causal:
        raise UnsupportedError(f"{run.architecture} needs the whole sequence: no tbptt_window")
    if task.kind in ("pair", "seq2seq"):
        raise UnsupportedError(f"{run.task} reads more than one sequence: no tbptt_window")
    if task.kind == "per_sequence" and task.pool == "mean":
        raise UnsupportedError(f"{run.task} reads the mean of all outputs: no tbptt_window")
    if run.resources.devices * run.resources.nodes > 1:
        raise UnsupportedError("tbptt_window is for one device")


def _out_of_memory(message: str) -> bool:
    """Whether an allocator is speaking; oneDNN names the primitive it has no memory for."""
    signs = ("can't allocate memory", "out of memory", "could not create a primitive", "bad_alloc")
    return any(sign in message.lower() for sign in signs)
