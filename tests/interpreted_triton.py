"""Triton kernels against the references in float64, by Triton's interpreter on the CPU.

Run by test_cuda_kernels.py in a process of its own: TRITON_INTERPRET has to be set before anything
imports triton. In the place of the code in C, their host code is registered for the CPU, so that
all goes through the same operations of torch.
"""

import os
import warnings
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from architectures.kernels import linear_scan as linear
from architectures.kernels import wkv4 as wkv
from architectures.kernels.cuda import linear_scan as cuda_linear
from architectures.kernels.cuda import wkv4 as cuda_wkv
from architectures.kernels.native import library
from architectures.kernels.native import wkv4 as native_wkv
from architectures.kernels.paths import recorded
from tests.native_operations import (
    SINGLE,
    error,
    linear_inputs,
    single,
    wkv4_reference,
    wkv_inputs,
)

assert os.environ["TRITON_INTERPRET"] == "1"
DTYPES = pytest.mark.parametrize("dtype", [torch.float64, torch.complex128], ids=["real", "pair"])


@pytest.fixture(autouse=True, scope="module")
def _triton_on_cpu() -> Iterator[None]:
    """Small tiles, so that few tokens are several chunks of several tiles: it interprets slowly."""
    patch = pytest.MonkeyPatch()
    for name, value in {"TILE": 4, "BLOCK": 4, "CHUNK_TOKENS": 6}.items():
        patch.setattr(cuda_linear, name, value)
    patch.setattr(native_wkv, "_starts_shape", native_wkv.states_shape)
    instead = torch.library.Library("seqbench", "IMPL")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Warning only once for all operators")
        for name, code in (("linear_scan", cuda_linear), ("wkv4", cuda_wkv)):
            instead.impl(name, code._forward, "CPU")
            instead.impl(f"{name}_backward", code._backward, "CPU")
    yield
    instead._destroy()
    patch.undo()


def scan(*inputs: Tensor) -> list[Tensor]:
    with recorded() as paths:
        states = linear.native.SCAN(*inputs)
    assert "triton" in paths["linear_scan"]
    return [states]


def reference(*inputs: Tensor) -> list[Tensor]:
    return [linear.linear_scan_reference(*inputs)]


def wkv_scan(*x: Tensor, lengths: Tensor | None = None) -> list[Tensor]:
    with recorded() as paths:
        found = wkv.native.SCAN(*x, lengths, True)[:4]
    assert "triton" in paths["wkv4"]
    return list(found)


@DTYPES
@pytest.mark.parametrize("decay", [(9, 99), (1, 99), (9, 1), (1, 1)], ids=str)
@pytest.mark.parametrize(("length", "width"), [(1, 1), (2, 5), (7, 5), (19, 3)])
def test_linear_scan_equals_the_reference(
    length: int, width: int, decay: tuple[int, int], dtype: torch.dtype
) -> None:
    inputs = linear_inputs(length, width, dtype, decay, n_rows=2)
    assert error(scan, reference, inputs) < SINGLE


@DTYPES
def test_one_chunk_equals_the_reference(
    dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cuda_linear, "CHUNK_TOKENS", 99)
    assert error(scan, reference, linear_inputs(11, 5, dtype, (9, 99), 2)) < SINGLE


@DTYPES
def test_any_strides_are_taken(dtype: torch.dtype) -> None:
    inputs = single(linear_inputs(11, 5, dtype, (9, 99), 2))
    strange = [torch.stack([x, x], -1)[..., 0].mT.contiguous().mT for x in inputs]
    assert not any(x.is_contiguous() for x in strange)
    expected = library.gradients(scan, inputs)
    assert all(map(torch.equal, library.gradients(scan, strange), expected))
    if dtype.is_complex:
        found = scan(*(x.conj() for x in inputs))[0]
        torch.testing.assert_close(found, expected[0].conj().resolve_conj())


@DTYPES
def test_nan_stays_in_its_row_and_after_its_token(dtype: torch.dtype) -> None:
    inputs = single(linear_inputs(11, 5, dtype, (9, 99), 2))
    clean = scan(*inputs)[0]
    inputs[1][1, 7, 2] = torch.nan
    states = scan(*inputs)[0]
    assert torch.equal(states[0], clean[0])
    assert torch.equal(states[1, :7], clean[1, :7])
    assert states[1, 7:, 2].isnan().all()
    assert not states[1, :, 3].isnan().any()


def test_nothing_to_scan_is_no_error() -> None:
    inputs = [torch.ones(2, 0, 5), torch.ones(2, 0, 5), torch.ones(2, 5)]
    assert scan(*inputs)[0].shape == (2, 0, 5)


def test_few_rows_are_cut_into_chunks_and_many_are_not() -> None:
    assert cuda_linear.chunk_tokens(1, 65536) == 64
    assert cuda_linear.chunk_tokens(4, 65536) == 256
    assert cuda_linear.chunk_tokens(4096, 65536) == 65536
    assert cuda_linear.chunk_tokens(1, 5) == 5


@pytest.mark.parametrize(("length", "width"), [(1, 1), (2, 35), (11, 5)])
def test_wkv4_equals_the_reference(length: int, width: int) -> None:
    inputs = wkv_inputs(length, width)
    assert error(wkv_scan, wkv4_reference, inputs) < SINGLE
    lengths = torch.tensor([1, length, (length + 1) // 2])
    found = error(
        lambda *x: wkv_scan(*x, lengths=lengths),
        lambda *x: wkv4_reference(*x, lengths=lengths),
        inputs,
    )
    assert found < SINGLE


def test_the_sums_of_wkv4_over_more_than_one_part_are_whole() -> None:
    assert error(wkv_scan, wkv4_reference, wkv_inputs(66, 1, n_rows=1)) < SINGLE


def test_wkv4_begins_at_nothing_and_keeps_nan_in_its_row() -> None:
    w, u, k, v, *_ = single(wkv_inputs(9, 5))
    nothing = torch.zeros(3, 5)
    start = nothing, nothing, nothing - torch.inf
    y = wkv_scan(w, u, k, v, *start)[0]
    assert torch.equal(y[:, 0], v[:, 0])
    k[1, 4, 2] = torch.nan
    poisoned, *final = wkv_scan(w, u, k, v, *start)
    assert all(x[1, 2].isnan() for x in final)
    assert torch.equal(poisoned[::2], y[::2])
    assert torch.equal(poisoned[1, :4], y[1, :4])
    assert poisoned[1, 4:, 2].isnan().all()


def test_torch_sees_the_operations() -> None:
    """Shapes for the compiler, derivative and FLOPs are those of the same operation in C."""
    library.register_flops()
    inputs = [x.requires_grad_() for x in single(linear_inputs(7, 3, torch.float64, (9, 99), 2))]
    torch.library.opcheck(torch.ops.seqbench.linear_scan.default, tuple(inputs))
    with FlopCounterMode(display=False) as counter:
        scan(*inputs)
    assert counter.get_total_flops() == 2 * 7 * linear.linear_scan_flops_per_token(3)
    inputs = [x.requires_grad_() for x in single(wkv_inputs(3, 2))]
    torch.library.opcheck(torch.ops.seqbench.wkv4.default, (*inputs, None, True))
