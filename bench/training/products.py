"""Which library computes float32 matrix products on a CPU: torch's default, or oneDNN.

torch takes MKL, which on AMD's processors reaches less than half of what they can. It goes to
oneDNN where its backend may compute float32 products by way of bfloat16, which is what the setting
is for, but on processors without AMX oneDNN then computes in float32 all the same, with AVX-512.
Whether it does is found by trying, and so is whether it is worth it:

- the outputs differ in some bit, or oneDNN did not take them at all;
- errors against float64, of forward and both backward products, of small, odd, batched and
  transposed operands, are at most MAX_ERROR_RATIO times those of the default;
- one thread is not slower, over shapes as layers have them.

Errors are of fixed draws and one thread, so that they are the same each time. Times are not: the
first process that tries on a kind of machine (processor and version of torch) writes down what it
found, in the folder of compiled code, and every other process reads that: workers decide alike,
today and tomorrow, and a decision near the threshold does not flip. Delete the file to try again.

SEQBENCH_PRODUCTS chooses: `auto` (default) tries; `onednn` wants it whatever its speed, and is an
error where it did not run or is less exact; `mkl` leaves torch's default. The setting is oneDNN's
alone, torch.backends.mkldnn.matmul, and touches no CUDA device.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from architectures.kernels.native.build import cache_folder, processor
from bench.errors import UserError
from bench.switches import switch

VARIABLE = "SEQBENCH_PRODUCTS"
MAX_ERROR_RATIO = 1.5
# Root mean square of rounding the result alone, relative: no product can be asked for less.
LEAST_ERROR = 2.0**-25
DRAWS = 8  # of small operands a single draw has too few numbers
ROUNDS = 5  # of timing, in turns; the fastest counts
ERROR_SHAPES = (
    ((256, 128), (128, 384)),
    ((67, 129), (129, 35)),
    ((3, 5), (5, 7)),
    ((1, 64), (64, 64)),
    ((6, 33, 17), (6, 17, 29)),
    ((4, 64, 32), (4, 32, 64)),
)
TIMED_SHAPES = (((512, 128), (128, 256)), ((1024, 64), (64, 64)), ((16, 64, 32), (16, 32, 64)))


@dataclass(frozen=True)
class Trial:
    """What oneDNN's products were like beside the default's."""

    ran: bool  # whether any bit differed
    error_ratio: float  # the largest of all products
    time_ratio: float

    def inexact(self) -> str:
        """Why it must not be taken, or nothing."""
        if not self.ran:
            return "oneDNN does not take float32 products on this processor"
        if not self.error_ratio <= MAX_ERROR_RATIO:  # NaN is not below it either
            return f"its error is {self.error_ratio:.3g} times the default's"
        return ""

    def refused(self) -> str:
        """Why it is not taken without being asked for, or nothing."""
        slow = "" if self.time_ratio <= 1.0 else f"it takes {self.time_ratio:.2f} times as long"
        return self.inexact() or slow


_settled: dict[str, Any] | None = None


def settle(device: torch.device) -> dict[str, Any] | None:
    """Choose the library for this process, once; returns what the row says, None off the CPU.

    Raises:
        UserError: SEQBENCH_PRODUCTS is unknown, or is `onednn` where that cannot be.
    """
    global _settled
    if device.type != "cpu":
        return None
    if _settled is None:
        _settled = decided(switch(VARIABLE))
        if _settled["library"] == "onednn":
            take_onednn(True)
    return _settled


def decided(asked: str) -> dict[str, Any]:
    """The library and why, for a value of SEQBENCH_PRODUCTS. Changes no setting."""
    said: dict[str, Any] = {"library": default_library(), "asked": asked}
    if asked == "mkl":
        return said
    if not torch.backends.mkldnn.is_available():
        reason, found = "this torch has no oneDNN", {}
    else:
        trial = remembered()
        reason = trial.inexact() if asked == "onednn" else trial.refused()
        ratios = {"error_ratio": trial.error_ratio, "time_ratio": trial.time_ratio}
        found = {k: v if math.isfinite(v) else None for k, v in ratios.items() if trial.ran}
    if not reason:
        return {**said, "library": "onednn", **found}
    if asked == "onednn":
        raise UserError(f"{VARIABLE}=onednn, but {reason}; choices: auto, mkl")
    return {**said, **found, "reason": reason}


def default_library() -> str:
    """What torch was built with."""
    return "mkl" if torch.backends.mkl.is_available() else "blas"


def take_onednn(yes: bool) -> None:
    """Let float32 products go to oneDNN, or no longer."""
    backend: Any = torch.backends.mkldnn
    backend.matmul.fp32_precision = "bf16" if yes else "none"


def float32_matmul_precision() -> str:
    """The setting of torch for all backends, or that of oneDNN where it has one of its own."""
    try:
        return str(torch.get_float32_matmul_precision())
    except RuntimeError:  # torch's answer if the backends differ
        backend: Any = torch.backends.mkldnn
        return f"mkldnn {backend.matmul.fp32_precision}"


def remembered() -> Trial:
    """The trial of this kind of machine: that of the first process, or one's own."""
    path = memory_file()
    found = _read(path)
    if found is not None:
        return found
    trial = try_onednn()
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle, unfinished = tempfile.mkstemp(dir=path.parent, prefix=path.stem)
        with os.fdopen(handle, "w") as file:
            json.dump(asdict(trial), file)
        try:
            # The first of several processes wins; what cannot be read is written over.
            (os.link if not path.exists() else os.replace)(unfinished, path)
        except FileExistsError:
            return _read(path) or trial
        finally:
            Path(unfinished).unlink(missing_ok=True)
    except OSError:
        return trial  # no folder to remember it in: it holds for this process
    return trial


def memory_file() -> Path:
    """Where the trial of this processor and this torch is written down."""
    key = hashlib.sha256(f"{torch.__version__}\n{processor()}".encode()).hexdigest()[:24]
    return cache_folder() / f"products-{key}.json"


def _read(path: Path) -> Trial | None:
    try:
        found = json.loads(path.read_text())
        ran, error_ratio, time_ratio = (
            found[name] for name in ("ran", "error_ratio", "time_ratio")
        )
        return Trial(bool(ran), float(error_ratio), float(time_ratio))
    except (OSError, ValueError, TypeError, LookupError):
        return None


def try_onednn() -> Trial:
    """Compare the two, in this process, on one thread; the setting is afterwards as before."""
    with _one_thread():
        ran, ratios = False, []
        for shapes in ERROR_SHAPES:
            squares = torch.zeros(2, 3, dtype=torch.float64)  # of the errors: library, product
            scale = torch.zeros(3, dtype=torch.float64)
            for draw in range(DRAWS):
                operands = _operands(shapes, draw)
                exact = _products(*(x.double() for x in operands))
                default, other = _products(*operands), _by_onednn(*operands)
                ran = ran or not all(map(torch.equal, default, other))
                for row, found in enumerate((default, other)):
                    squares[row] += torch.stack(list(map(_squared_difference, found, exact)))
                scale += torch.stack([x.square().sum() for x in exact])
            error = (squares / scale).sqrt().clamp(min=LEAST_ERROR)
            ratios.append((error[1] / error[0]).max())
        return Trial(ran, float(torch.stack(ratios).max()), _time_ratio() if ran else 1.0)


def _operands(shapes: tuple[tuple[int, ...], ...], seed: int) -> list[Tensor]:
    """Left, right and the gradient of their product; the right one is a transposed view."""
    generator = torch.Generator().manual_seed(seed)
    (*left, inner), (*_, columns) = shapes
    right = (*shapes[1][:-2], columns, inner)
    drawn = [torch.randn(shape, generator=generator) for shape in (shapes[0], right)]
    return [drawn[0], drawn[1].mT, torch.randn(*left, columns, generator=generator)]


def _products(left: Tensor, right: Tensor, gradient: Tensor) -> list[Tensor]:
    """The product and the gradients of both operands, as a layer computes them."""
    return [left @ right, gradient @ right.mT, left.mT @ gradient]


def _by_onednn(*operands: Tensor) -> list[Tensor]:
    take_onednn(True)
    try:
        return _products(*operands)
    finally:
        take_onednn(False)


def _squared_difference(found: Tensor, exact: Tensor) -> Tensor:
    return (found.double() - exact).square().sum()


def _time_ratio() -> float:
    """The time of oneDNN by that of the default, of all shapes together, each at its fastest."""
    both: tuple[Callable[..., list[Tensor]], ...] = (_products, _by_onednn)
    totals = [0.0, 0.0]
    for shapes in TIMED_SHAPES:
        operands = _operands(shapes, 0)
        fastest = [float("inf")] * 2
        for _ in range(ROUNDS):
            for which, run in enumerate(both):
                begun = time.perf_counter()
                run(*operands)
                fastest[which] = min(fastest[which], time.perf_counter() - begun)
        totals = [total + seconds for total, seconds in zip(totals, fastest, strict=True)]
    return totals[1] / totals[0]


@contextmanager
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
