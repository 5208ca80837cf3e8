"""Triton kernels, interpreted and compiled on a CPU; all fast paths on a GPU, if there is one."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from architectures import ARCHITECTURES
from architectures.kernels import causal_convolution as convolution
from architectures.kernels import linear_scan as linear
from architectures.kernels import selective_scan as selective
from architectures.kernels import ssd as duality
from architectures.kernels.cuda.graphs import GraphedStep
from architectures.kernels.cuda.path import PATHS
from architectures.kernels.native import library
from tests.fake_packages import convolution_inputs, ssd_inputs
from tests.native_operations import (
    BFLOAT16,
    SINGLE,
    linear_inputs,
    normal,
    selective_inputs,
    single,
    wkv4,
    wkv_inputs,
)

gpu = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device is visible"),
]
TF32 = 2e-2  # products of mamba_ssm's ssd round to 10 bits; gradients are products of products
TESTS = Path(__file__).parent

COMPILED = """
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from architectures.kernels.cuda.jit import linear_scan, wkv4

WHOLE = ("T", "N", "E", "n_tokens", "n_chunks", "a_row", "a_time")

def compile_for(capability, kernel, warps, **constants):
    types = {
        name: "constexpr" if name in constants
        else "i32" if name in WHOLE
        else "*i64" if name == "lengths"
        else "*fp32"
        for name in kernel.arg_names
    }
    source = ASTSource(fn=kernel, signature=types, constexprs=constants)
    target = GPUTarget("cuda", capability, 32)
    assert triton.compile(source, target=target, options={"num_warps": warps}).asm["cubin"]

tile = {"TILE": 32, "BLOCK": 32}
for pair in (False, True):
    for ones in ({}, {"T": 1, "N": 1, "n_chunks": 1, "a_row": 1}):
        part = {"COMPLEX": pair, **ones}
        sums = {"REVERSE": True, "WANTS_A": True, "SUMS_A": pair}
        compile_for(90, linear_scan.scan, 4, **part, **tile, **sums)
    compile_for(90, linear_scan.chunk_ends, 4, COMPLEX=pair, REVERSE=not pair, **tile)
    compile_for(80, linear_scan.chunk_starts, 1, COMPLEX=pair, BLOCK=32)
compile_for(80, wkv4.forward, 1, HAS_LENGTHS=True, KEEP=True, BLOCK=32)
compile_for(90, wkv4.backward, 1, HAS_LENGTHS=False, BLOCK=32)
"""


@pytest.mark.slow
def test_triton_kernels_equal_the_references_in_its_interpreter() -> None:
    pytest.importorskip("triton", reason="Triton is for Linux")
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    command = [sys.executable, "-m", "pytest", "-q", "-x", str(TESTS / "interpreted_triton.py")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stdout[-5000:]


@pytest.mark.slow
def test_triton_kernels_compile_for_gpus_that_are_not_here(tmp_path: Path) -> None:
    pytest.importorskip("triton", reason="Triton is for Linux")
    environment = {**os.environ, "TRITON_CACHE_DIR": str(tmp_path)}
    environment.pop("TRITON_INTERPRET", None)
    subprocess.run([sys.executable, "-c", COMPILED], check=True, timeout=200, env=environment)


def scan(*x: Tensor) -> list[Tensor]:
    return [linear.linear_scan(*x)]


# Each as `linear_scan` and the rest dispatch it: operation, call, inputs, bound of the error.
ON_DEVICE: dict[str, tuple[str, Any, Any, float]] = {
    "linear_scan": (
        *("linear_scan", scan),
        *(lambda: linear_inputs(300, 45, torch.float64, (9, 999)), SINGLE),
    ),
    "linear_scan_constant": (
        *("linear_scan", scan),
        *(lambda: linear_inputs(300, 45, torch.complex128, (1, 1)), 1e-5),
    ),
    "wkv4": ("wkv4", wkv4, lambda: wkv_inputs(99, 45), SINGLE),
    "selective_scan": (
        *("selective_scan", selective.selective_scan),
        *(lambda: selective_inputs(99, 45, 16), 1e-5),
    ),
    "ssd": ("ssd", duality.selective_ssd, ssd_inputs, TF32),
    "causal_convolution": (
        *("causal_convolution", convolution.causal_convolution),
        *(convolution_inputs, SINGLE),
    ),
}


def package_runs(operation: str) -> None:
    """Triton has to; the packages of the extra `gpu` are skipped where they do not."""
    path, device = PATHS[operation], torch.device("cuda", 0)
    name = path.name_for(torch.float32, device)
    reason = library.reasons().get(f"{operation} on {device}")
    if name is None and path.package != "triton":
        pytest.skip(f"{path.package} does not run here: {reason}")
    assert name == path.package, reason


@pytest.mark.parametrize("name", ON_DEVICE)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
class TestOnDevice:
    pytestmark = gpu

    def test_the_fast_path_equals_the_reference(
        self, name: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        operation, run, inputs_of, bound = ON_DEVICE[name]
        monkeypatch.setenv("SEQBENCH_KERNELS", "auto")
        monkeypatch.setattr(torch, "get_float32_matmul_precision", lambda: "high")
        package_runs(operation)
        inputs = single(inputs_of())
        if dtype == torch.bfloat16:
            if inputs[0].is_complex():
                pytest.skip("there are no complex numbers of bfloat16")
            inputs, bound = [x.to(dtype) for x in inputs], BFLOAT16
        found = library.gradients(run, [x.cuda() for x in inputs])
        exact = [x.to(torch.complex128 if x.is_complex() else torch.float64) for x in inputs]
        assert library.relative_error(found, library.gradients(run, exact)) < bound


class TestTorchOnDevice:
    pytestmark = gpu

    @pytest.mark.parametrize("cell", ["rnn_stack", "lstm_stack", "gru_stack"])
    def test_stacks_run_in_one_call_of_cudnn(self, cell: str) -> None:
        body = ARCHITECTURES[cell](32, layers=2).cuda()
        x = torch.randn(2, 9, 32, device="cuda")
        body(x)
        with torch.profiler.profile() as profile:
            body(x)
        calls = [event for event in profile.events() if event.name == "aten::_cudnn_rnn"]
        assert len(calls) == 1
        assert body.kernel == "cudnn"

    def test_attention_takes_a_fused_backend(self) -> None:
        body = ARCHITECTURES["transformer"](64, heads=2).cuda()
        assert body.kernel in ("sdpa-efficient", "sdpa-cudnn")
        assert body.bfloat16().kernel in ("sdpa-flash", "sdpa-cudnn")

    @pytest.mark.parametrize("name", ["lstm", "rwkv4", "mamba", "mamba2", "mingru"])
    def test_a_graphed_step_equals_the_eager_steps(self, name: str) -> None:
        torch.manual_seed(0)
        body = ARCHITECTURES[name](32).cuda()
        x = normal(2, 9, 32).float().cuda()
        with torch.no_grad():
            _, state = body.step(x[:, 0])
            graphed = GraphedStep(body, x[:, 1], state)
            for t in range(1, 9):
                y_t, state = body.step(x[:, t], state)
                torch.testing.assert_close(graphed(x[:, t]), y_t)
        torch.testing.assert_close(graphed.state, state)
