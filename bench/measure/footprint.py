"""Where the memory of a step goes: the peak of a training step, its parts, and that of inference.

A meter says what is allocated and what the peak was. Everything is relative to a baseline taken
after a few tokens of the same kind have been trained, so that libraries loaded on first use are not
counted, and after the batch has been drawn once, so that the task's cache of examples is not.

- `peak_bytes`: the peak of two training steps (the optimiser's state exists from the second one
  on), with the model, its gradients, the optimiser's state and the batch;
- `parameter_bytes`, `gradient_bytes`, `optimiser_bytes`: the storages of the model's parameters and
  buffers, of the gradients, and of the optimiser's state, as they lie on the device afterwards;
- `activation_bytes`: the peak of a third step's forward pass and loss, less what was allocated just
  before it: what is kept for the way back and the temporaries of the way there. With truncated
  backpropagation, of the window that takes the most;
- `infer_peak_bytes`: the peak of one forward pass without gradient, with a model of its own and the
  batch.

The peak is not the sum of the parts: gradients grow while activations are released.

A run that measures has one device. Were there several ranks, each would measure itself and the row
would have the maximum over them.
"""

from __future__ import annotations

import gc
from collections.abc import Iterable
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from bench.measure.metrics import Metrics
from bench.measure.step import InferenceStep, TrainingStep
from bench.spec import Run
from bench.training.execute import prepare
from bench.training.optimiser import make_optimiser
from bench.training.truncated import backward_through_windows, scored_answers
from tasks.task import Batch, Kind

TINY_TOKENS = 16


class Meter(Protocol):
    """What knows how much memory is in use."""

    @property
    def method(self) -> str:
        """What rows call it."""

    def live(self) -> int:
        """Bytes in use now."""

    def reset_peak(self) -> None:
        """Let the peak start again from what is in use now."""

    def peak(self) -> int:
        """The most bytes in use at a time since the reset."""

    def settle(self) -> None:
        """Give back to the system what is freed, where that matters."""

    def extra(self) -> dict[str, int]:
        """What else it knows of the time since the reset, as metrics."""


def footprint(run: Run, device: torch.device, meter: Meter) -> Metrics:
    """The peaks and the parts of a run, in bytes, and the method.

    Has to be called once, in a process that has not trained anything.
    """
    rehearse(run, device)
    training = _training(run, device, meter)
    return {**training, **_inference(run, device, meter), "memory_method": meter.method}


def rehearse(run: Run, device: torch.device) -> None:
    """Load what a step needs: train a few tokens, once, and draw the batch."""
    prepared = prepare(run).to(device)
    prepared.batch()
    task, model = prepared.task, prepared.model
    batch = _shortened(task.examples("train", run.seed, torch.arange(1)).to(device), task.kind)
    loss, _ = task.loss(model.answer(batch), batch.targets)
    loss.backward()
    make_optimiser(model, run.training).step()
    with torch.no_grad():
        model.eval().answer(batch)


def _training(run: Run, device: torch.device, meter: Meter) -> Metrics:
    baseline = _baseline(meter)
    step = TrainingStep(prepare(run).to(device))
    meter.reset_peak()
    step()
    step()
    peak, extra = meter.peak() - baseline, meter.extra()
    model, state = step.model, pytree.tree_leaves(dict(step.optimiser.state))
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    parts = {
        "parameter_bytes": stored_bytes([*model.parameters(), *model.buffers()], device),
        "gradient_bytes": stored_bytes(gradients, device),
        "optimiser_bytes": stored_bytes(state, device),
    }
    del gradients, state
    return {
        "peak_bytes": max(0, peak),
        **extra,
        **parts,
        "activation_bytes": _activation_bytes(step, meter),
    }


def _activation_bytes(step: TrainingStep, meter: Meter) -> int:
    """The peak of the forward pass, or of the largest window's, over what was there before it."""
    batch, window, task, model = step.batch, step.training.tbptt_window, step.task, step.model
    step.optimiser.zero_grad(set_to_none=True)
    before = largest = 0

    def begin() -> None:
        nonlocal before
        meter.reset_peak()
        before = meter.live()

    def backward(loss: Tensor) -> None:
        nonlocal largest
        largest = max(largest, meter.peak() - before)
        loss.backward()
        begin()

    gc.collect()
    meter.settle()
    begin()
    with step.context:
        if window is None:
            loss, count = task.loss(model.answer(batch), batch.targets)
            backward(loss / count)
        else:
            total = scored_answers(batch)
            backward_through_windows(model, task, batch, window, total, backward)
    return largest


def _inference(run: Run, device: torch.device, meter: Meter) -> Metrics:
    baseline = _baseline(meter)
    step = InferenceStep(prepare(run).to(device))
    meter.reset_peak()
    step()
    return {"infer_peak_bytes": max(0, meter.peak() - baseline)}


def _baseline(meter: Meter) -> int:
    gc.collect()
    meter.settle()
    return meter.live()


def stored_bytes(values: Iterable[Any], device: torch.device) -> int:
    """Bytes of the storages on a device that tensors among the values lie in, each once."""
    tensors = [value for value in values if isinstance(value, Tensor) and value.device == device]
    storages = [tensor.untyped_storage() for tensor in tensors]
    return sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())


def _shortened(batch: Batch, kind: Kind) -> Batch:
    """The first tokens of a batch, all of them real."""
    inputs = batch.inputs[:, :, :TINY_TOKENS] if kind == "pair" else batch.inputs[:, :TINY_TOKENS]
    targets = batch.targets[:, :TINY_TOKENS] if kind == "per_step" else batch.targets
    return Batch(inputs=inputs, targets=targets)
