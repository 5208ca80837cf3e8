"""mamba_ssm and causal_conv1d as their sources have them, computed by our references on the CPU.

Signatures, layouts and refusals are those of state-spaces/mamba and Dao-AILab/causal-conv1d.
"""

import sys
import types
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from architectures.kernels.causal_convolution import causal_convolution_reference
from architectures.kernels.cuda.path import PATHS
from architectures.kernels.native import library
from architectures.kernels.selective_scan import selective_scan_reference
from architectures.kernels.ssd import ssd
from tests.native_operations import normal


def selective_scan_fn(
    u, delta, A, B, C, D=None, z=None, delta_bias=None, delta_softplus=False,
    return_last_state=False, cu_seqlens=None,
):  # fmt: skip
    """u and delta (B, D, L), B and C (B, N, L): begins at zero, and its state has no gradient."""
    n_rows, width, length = u.shape
    assert delta.shape == u.shape
    assert A.shape[0] == width
    assert A.shape[1] <= 256
    assert B.shape == C.shape == (n_rows, A.shape[1], length)
    assert D.shape == (width,)
    assert {x.dtype for x in (u, delta, A, B, C, D)} == {torch.float32}
    assert z is None
    assert delta_bias is None
    assert not delta_softplus
    state = u.new_zeros(n_rows, *A.shape)
    y, last = selective_scan_reference(u.mT, delta.mT, A, B.mT, C.mT, D, state)
    return (y.mT, last.detach()) if return_last_state else y.mT


def mamba_chunk_scan_combined(
    x, dt, A, B, C, chunk_size, D=None, z=None, dt_bias=None, initial_states=None, seq_idx=None,
    cu_seqlens=None, dt_softplus=False, dt_limit=(0.0, float("inf")), return_final_states=False,
    return_varlen_states=False,
):  # fmt: skip
    """x (B, L, H, P), dt (B, L, H), B and C (B, L, G, N), initial_states (B, H, P, N)."""
    n_rows, length, heads, head_width = x.shape
    n_state = B.shape[3]
    assert dt.shape == (n_rows, length, heads)
    assert A.shape == D.shape == (heads,)
    assert B.shape == C.shape == (n_rows, length, 1, n_state)
    assert chunk_size & (chunk_size - 1) == 0
    if initial_states is not None:
        assert initial_states.shape == (n_rows, heads, head_width, n_state)
        initial_states = initial_states.mT
    y, last = ssd(C, B, dt.unsqueeze(3) * x, A * dt, initial_states)
    y = y + x * D.unsqueeze(1)
    return (y, last.mT) if return_final_states else y


def causal_conv1d_fn(
    x, weight, bias=None, seq_idx=None, initial_states=None, return_final_states=False,
    final_states_out=None, activation=None,
):  # fmt: skip
    """x (B, D, L), weight (D, K), initial_states (B, D, K - 1); sums of float32, y in x's dtype."""
    n_rows, width, _ = x.shape
    assert x.stride(1) == 1
    assert x.stride(2) > 1  # channels last
    assert width % 8 == 0
    assert x.stride(0) % 8 == x.stride(2) % 8 == 0
    assert x.storage_offset() % 8 == 0
    assert 2 <= weight.shape[1] <= 4
    assert bias.dtype == weight.dtype
    assert bias.stride(-1) == 1
    assert initial_states.shape == (n_rows, width, weight.shape[1] - 1)
    assert initial_states.dtype == x.dtype
    assert initial_states.stride(1) == 1
    assert activation is None
    given = (x.mT, weight, bias, initial_states.mT)
    return causal_convolution_reference(*(y.float() for y in given)).to(x.dtype).mT


FUNCTIONS: dict[str, tuple[str, Callable[..., Any]]] = {
    "selective_scan": ("mamba_ssm.ops.selective_scan_interface", selective_scan_fn),
    "ssd": ("mamba_ssm.ops.triton.ssd_combined", mamba_chunk_scan_combined),
    "causal_convolution": ("causal_conv1d", causal_conv1d_fn),
}


def install(
    operation: str, monkeypatch: pytest.MonkeyPatch, function: Callable[..., Any] | None = None
) -> None:
    """Put a package where it is imported from, and let its path take tensors on the CPU.

    Code in C is as if it were not there, and no device has been tried.
    """
    module, true = FUNCTIONS[operation]
    parts = module.split(".")
    for depth in range(1, len(parts) + 1):
        name = ".".join(parts[:depth])
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    setattr(sys.modules[module], true.__name__, function or true)
    lone(operation, monkeypatch)


def lone(operation: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a path take tensors on the CPU, tried anew, with nothing else there."""
    monkeypatch.setattr(PATHS[operation], "device_type", "cpu")
    kernels = dict(library.KERNELS)
    if operation in kernels:
        monkeypatch.setattr(kernels[operation], "dtypes", ())
    monkeypatch.setattr(library, "KERNELS", kernels)


def negative(function: Callable[..., Any]) -> Callable[..., Any]:
    """The same with a wrong sign in y."""

    def call(*args: Any, **kwargs: Any) -> Any:
        found = function(*args, **kwargs)
        return -found if isinstance(found, Tensor) else (-found[0], *found[1:])

    return call


def ssd_inputs() -> list[Tensor]:
    """u, dt, A, B, C, D and a state."""
    u, dt = normal(2, 37, 3, 5), normal(2, 37, 3, seed=1).sigmoid()
    B, C = normal(2, 37, 4, seed=3), normal(2, 37, 4, seed=4)
    A, D = -normal(3, seed=2).exp(), normal(3, seed=5)
    return [u, dt, A, B, C, D, normal(2, 3, 4, 5, seed=6)]


def convolution_inputs() -> list[Tensor]:
    """x, weight, bias and a state."""
    x, state = normal(3, 9, 16), normal(3, 3, 16, seed=3)
    return [x, normal(16, 4, seed=1), normal(16, seed=2), state]
