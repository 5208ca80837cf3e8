"""Optimiser and learning-rate schedule of a run."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from torch.optim import SGD, Adam, AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from architectures.body import ParamGroup
from bench.spec import TrainingSpec
from bench.training.model import SequenceModel


def make_optimiser(model: SequenceModel, training: TrainingSpec) -> Optimizer:
    """The optimiser over the body's own groups and the rest.

    Norms and biases, which are vectors, are not decayed.
    """
    special = model.body.param_groups()
    taken = {id(p) for group in special for p in group.parameters}
    rest = [p for p in model.parameters() if p.requires_grad and id(p) not in taken]
    groups = [_options(group, training) for group in special]
    groups.append({"params": [p for p in rest if p.dim() >= 2]})
    groups.append({"params": [p for p in rest if p.dim() < 2], "weight_decay": 0.0})
    groups = [group for group in groups if group["params"]]
    lr, decay = training.learning_rate, training.weight_decay
    match training.optimiser:
        case "adamw":
            return AdamW(groups, lr=lr, weight_decay=decay)
        case "adam":
            return Adam(groups, lr=lr, weight_decay=decay)
        case "sgd":
            return SGD(groups, lr=lr, weight_decay=decay, momentum=0.9)


def make_schedule(optimiser: Optimizer, training: TrainingSpec) -> LambdaLR:
    """Linear warm-up, then constant or cosine; the last step is taken at `final_learning_rate`."""
    return LambdaLR(optimiser, factor(training))


def factor(training: TrainingSpec) -> Callable[[int], float]:
    """The learning rate of a step, counted from 0, as a fraction of the configured one."""
    warmup, steps = training.warmup_steps, training.steps
    floor = training.final_learning_rate / training.learning_rate

    def at(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        if training.schedule == "constant":
            return 1.0
        progress = min(1.0, (step - warmup) / max(1, steps - 1 - warmup))
        return floor + (1.0 - floor) * 0.5 * (1.0 + math.cos(math.pi * progress))

    return at


def _options(group: ParamGroup, training: TrainingSpec) -> dict[str, Any]:
    lr = training.learning_rate * group.learning_rate_scale
    if group.max_learning_rate is not None:
        lr = min(lr, group.max_learning_rate)
    options: dict[str, Any] = {"params": list(group.parameters), "lr": lr}
    if group.weight_decay is not None:
        options["weight_decay"] = group.weight_decay
    return options
