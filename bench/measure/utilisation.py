"""How much of what this machine can do a body uses: of its products, and of its memory.

Model FLOPs utilisation (Chowdhery et al. 2022, https://arxiv.org/abs/2204.02311, appendix B):

    MFU = operations per token x tokens per second / peak

with the body's own `flops_per_token` (embedding and head are not counted), three times that for a
training step (the backward pass takes two products for each of the forward one), whatever is
recomputed; and with the peak of matrix products measured on this device in the run's type.

Scans do few operations per byte, and their bound is memory. `*_bandwidth_share` is the time that
the least traffic would take, by the time taken. The least traffic of a body reads its input and
writes its output once in a forward pass (2 D values per token), and in a training step reads the
output's gradient and writes the input's too (4 D); weights, states and everything in between may
stay in the caches. So it is a lower bound of what memory is used for.

train_mfu, infer_mfu            shares of the peak; 1 is all of it
train_bandwidth_share, infer_bandwidth_share    of bodies that scan
calibration, calibration_flops_per_s, calibration_bytes_per_s   what was measured when: its id
mfu_missing                     why there is none
"""

from __future__ import annotations

from collections.abc import Collection

from architectures.body import Body
from bench.measure.calibrate import Calibration
from bench.measure.metrics import Metrics
from bench.spec import Run

TRAINING_COST = 3.0  # forward passes
DTYPES = {
    "32-true": "float32",
    "64-true": "float64",
    "bf16-true": "bfloat16",
    "bf16-mixed": "bfloat16",
    "16-mixed": "float16",
}
"""The type of a run's products by its precision."""
BYTES = {"32-true": 4, "64-true": 8, "bf16-true": 2, "bf16-mixed": 2, "16-mixed": 2}
"""Of a value that a body reads or writes, at least."""
SCANS = ("linear_scan", "selective_scan", "wkv4")
"""Operations that go through the sequence with a few operations per value."""
NO_CALIBRATION = "this machine is not calibrated: run bench doctor --calibrate"
FORWARD_VALUES, TRAINING_VALUES = 2, 4  # per token and channel that cross a body's border


def metrics(
    measured: Metrics,
    *,
    run: Run,
    body: Body,
    operations: Collection[str],
    calibration: Calibration | None,
) -> Metrics:
    """The utilisation of a run whose speeds were `measured`.

    `operations` are those that the body was seen to take.
    """
    if calibration is None:
        return {"mfu_missing": NO_CALIBRATION}
    found: Metrics = {"calibration": calibration.id}
    train, infer = (float(measured[f"{what}_tokens_per_s"] or 0) for what in ("train", "infer"))
    dtype = DTYPES[run.training.precision]
    peak, flops = calibration.matmul_flops_per_s(dtype), body.flops_per_token(run.length)
    if peak is None:
        found["mfu_missing"] = f"the calibration of this machine has no products in {dtype}"
    else:
        found |= {
            "calibration_flops_per_s": peak,
            "train_mfu": TRAINING_COST * flops * train / peak,
            "infer_mfu": flops * infer / peak,
        }
    if any(name in SCANS for name in operations):
        value_bytes = BYTES[run.training.precision] * body.width
        found |= {
            "calibration_bytes_per_s": calibration.bytes_per_s,
            "train_bandwidth_share": TRAINING_VALUES
            * value_bytes
            * train
            / calibration.bytes_per_s,
            "infer_bandwidth_share": FORWARD_VALUES * value_bytes * infer / calibration.bytes_per_s,
        }
    return found
