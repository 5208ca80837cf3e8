"""A model held still for its gradients: a copy without dropout, and examples of its task.

B batch, T time, D width, S symbols of an answer.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Tensor

from architectures.body import UnsupportedError
from bench.certify.finding import without_dropout
from bench.measure.jacobian import real_parts
from bench.training.execute import Prepared
from bench.training.model import SequenceModel, WritingModel
from tasks.task import UNSCORED, Batch, Kind

N_ROWS = 16
COTANGENT_SEED = 0


@dataclass(frozen=True)
class Reading:
    """What a body reads, and at which token its output is taken."""

    x: Tensor  # (B, T, D)
    lengths: Tensor | None  # (B,)
    ends: Tensor  # (B,): t of the output

    def cotangent(self) -> Tensor:
        """The random v (B, D), the same for every call."""
        n_rows, _, width = self.x.shape
        rng = torch.Generator().manual_seed(COTANGENT_SEED)
        return torch.randn(n_rows, width, dtype=torch.float64, generator=rng).to(self.x)


class Probe:
    """The model as it is now, in float64 where its body allows it, and examples of val."""

    def __init__(self, prepared: Prepared) -> None:
        self.kind: Kind = prepared.task.kind
        # Training mode: cuDNN's recurrent layers have no gradient in evaluation.
        self.model: SequenceModel = copy.deepcopy(prepared.model).train()
        without_dropout(self.model.body)
        self.dtype = self._settled_dtype(prepared.device)
        size = prepared.task.size("val")
        indices = torch.arange(N_ROWS if size is None else min(N_ROWS, size))
        drawn = prepared.task.examples("val", prepared.run.seed, indices)
        self.batch = _answered(drawn).to(prepared.device).cast(self.dtype)

    def reading(self) -> Reading:
        """The embedded inputs (B, T, D), of a pair both documents, up to the last scored token.

        Raises:
            UnsupportedError: the answer is a sequence, read after its source.
        """
        if isinstance(self.model, WritingModel):
            raise UnsupportedError("the answer is a sequence, which is read after its source")
        batch, inputs, lengths = self.batch, self.batch.inputs, self.batch.lengths
        if self.kind == "pair":
            inputs = inputs.flatten(0, 1)  # (2B, T) or (2B, T, C)
            lengths = None if lengths is None else lengths.flatten()
        with torch.no_grad():
            x = self.model.embedding(inputs)  # (B, T, D)
        if self.kind == "per_step":
            ends = _last(_scored(batch.targets))
        elif lengths is not None:
            ends = lengths - 1
        else:
            ends = torch.full((len(x),), x.shape[1] - 1, device=x.device)
        return Reading(x, lengths, ends)

    def input_norms(self) -> tuple[Tensor, Tensor]:
        """Norms (B, P) of dL / dx at what was read, and how many tokens before t that was (B, P).

        Padding has distance -1, and so has what follows t.
        """
        if isinstance(self.model, WritingModel):
            return self._written_norms(self.model)
        reading = self.reading()
        x = reading.x.requires_grad_()
        with torch.enable_grad():
            y, _ = self.model.body(x, lengths=reading.lengths)
            y_t = y[torch.arange(len(y), device=y.device), reading.ends]  # (B, D)
            (gradient,) = torch.autograd.grad((y_t * reading.cotangent()).sum(), x)
        places = torch.arange(x.shape[1], device=x.device)
        return gradient.norm(dim=2), (reading.ends.unsqueeze(1) - places).clamp(min=-1)

    def _written_norms(self, model: WritingModel) -> tuple[Tensor, Tensor]:
        """Of an answer's last symbol by the source and the symbols before it, as one sequence."""
        batch, body = self.batch, model.body
        before = batch.targets[:, :-1].clamp(min=0)
        start = before.new_full((len(before), 1), model.start_symbol)
        with torch.no_grad():
            x = model.embedding(batch.inputs)  # (B, T, D)
            answer = model.written_embedding(torch.cat([start, before], dim=1))  # (B, S, D)
        x, answer = x.requires_grad_(), answer.requires_grad_()
        last = _last(_scored(batch.targets))  # (B,)
        with torch.enable_grad():
            y, _ = body.decode(answer, body.encode(x, lengths=batch.lengths))
            y_t = y[torch.arange(len(y), device=y.device), last]  # (B, D)
            cotangent = Reading(x, batch.lengths, last).cotangent()
            gradients = torch.autograd.grad((y_t * cotangent).sum(), (x, answer))
        norms = torch.cat([gradient.norm(dim=2) for gradient in gradients], dim=1)  # (B, T + S)
        places = torch.arange(x.shape[1], device=x.device).expand(len(x), -1)
        symbols = torch.arange(answer.shape[1], device=x.device).expand(len(x), -1)
        n_real = last.new_full((len(x),), x.shape[1]) if batch.lengths is None else batch.lengths
        before_end = (n_real + last).unsqueeze(1) - places  # (B, T)
        before_end = before_end.where(places < n_real.unsqueeze(1), -1)
        distances = torch.cat([before_end, last.unsqueeze(1) - symbols], dim=1)
        return norms, distances.clamp(min=-1)

    def state_norms(self, distance: int) -> Tensor:
        """Norms (b,) of dL / dh at the state k = `distance` tokens before t, of rows that reach it.

        Raises:
            UnsupportedError: the body carries no state, or is given none.
        """
        body, reading = self.model.body, self.reading()
        if not body.causal:
            raise UnsupportedError("it reads both ways and carries no state")
        rows = reading.ends >= distance
        x, cotangent = reading.x[rows], reading.cotangent()[rows]
        n_before = reading.ends[rows] - distance + 1  # (b,): tokens that the state has read
        n_most = int(n_before.max())
        alike = bool((n_before == n_most).all())
        following = n_before.unsqueeze(1) + torch.arange(distance, device=x.device)  # (b, k)
        rest = x.gather(1, following.unsqueeze(2).expand(-1, -1, x.shape[2]))  # (b, k, D)
        with torch.no_grad():
            _, state = body(x[:, :n_most], lengths=None if alike else n_before)
        parts, rebuild = real_parts(state)
        if not parts:
            raise UnsupportedError("it carries no state")
        leaves = tuple(part.detach().requires_grad_() for part in parts)
        with torch.enable_grad():
            y, _ = body(rest, rebuild(leaves))
            gradients = torch.autograd.grad(
                (y[:, -1] * cotangent).sum(), leaves, allow_unused=True, materialize_grads=True
            )
        norms: Tensor = torch.cat([g.flatten(1) for g in gradients], dim=1).norm(dim=1)
        return norms

    def _settled_dtype(self, device: torch.device) -> torch.dtype:
        """Cast the model to float64, or to float32 if its body does not run in that."""
        for dtype in (torch.float64, torch.float32):
            self.model.to(dtype)
            x = torch.zeros(1, 2, self.model.body.width, device=device, dtype=dtype)
            try:
                with torch.enable_grad():
                    y, _ = self.model.body(x.requires_grad_())
                    torch.autograd.grad(y, x, torch.ones_like(y))
            except (NotImplementedError, RuntimeError, TypeError):
                continue
            return dtype
        raise UnsupportedError("its body runs neither in float64 nor in float32")


def _scored(targets: Tensor) -> Tensor:
    """Which positions of targets (B, T) or (B, T, K) count: (B, T)."""
    if targets.is_floating_point():
        return ~targets.isnan().all(dim=2)
    return targets != UNSCORED


def _last(mask: Tensor) -> Tensor:
    """The last true position of each row of a mask (B, T)."""
    return torch.where(mask, torch.arange(mask.shape[1], device=mask.device), 0).amax(dim=1)


def _answered(batch: Batch) -> Batch:
    """The rows of which something is scored."""
    if batch.targets.dim() < 2 or (batch.targets.is_floating_point() and batch.targets.dim() < 3):
        return batch
    rows = _scored(batch.targets).any(dim=1)
    if not bool(rows.any()):
        raise UnsupportedError(f"nothing is scored in the first {len(batch)} examples of val")
    return Batch(
        inputs=batch.inputs[rows],
        targets=batch.targets[rows],
        lengths=None if batch.lengths is None else batch.lengths[rows],
    )
