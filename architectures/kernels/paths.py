"""Which implementation an operation takes, found while it runs.

A path is what decides an operation's speed: `onednn`, `cudnn`, `sdpa-flash`, `native-cpu`, torch's
own loop over time (`aten`), batched products or transforms of plain PyTorch where those are the
fast form (`chunked`, `fft`), or plain PyTorch where another form is faster (`reference`).

While `recorded` is open, two things write: our dispatch points, by `note`; and torch, whose
operators are seen as they are called, and whose recurrent layers and attention without a fused
operator inside are its own loops and products. So nothing is asked of predicates that may differ
from what torch does.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

Paths: TypeAlias = dict[str, str]
"""The path of each operation, in order of first use; several are joined by "+"."""

NATIVE, REFERENCE, CHUNKED, FFT = "native-cpu", "reference", "chunked", "fft"
NATIVE_NAMESPACE = "seqbench::"
MINOR = ("causal_convolution",)
"""Operations that cost little beside another one: they name a body only where no other ran."""

FUSED = {
    "aten::mkldnn_rnn_layer": ("recurrence", "onednn"),
    "aten::_cudnn_rnn": ("recurrence", "cudnn"),
    "aten::miopen_rnn": ("recurrence", "miopen"),
    "aten::_scaled_dot_product_flash_attention": ("attention", "sdpa-flash"),
    "aten::_scaled_dot_product_flash_attention_for_cpu": ("attention", "sdpa-flash"),
    "aten::_scaled_dot_product_efficient_attention": ("attention", "sdpa-efficient"),
    "aten::_scaled_dot_product_cudnn_attention": ("attention", "sdpa-cudnn"),
    "aten::_scaled_dot_product_fused_attention_overrideable": ("attention", "sdpa-overrideable"),
}
"""Operators of torch that are one implementation of a larger function."""

FUNCTIONS: dict[Any, tuple[str, str]] = {
    torch.lstm: ("lstm", "aten"),
    torch.gru: ("gru", "aten"),
    torch.rnn_tanh: ("rnn", "aten"),
    torch.rnn_relu: ("rnn", "aten"),
    scaled_dot_product_attention: ("attention", "sdpa-math"),
}
"""Functions of torch: the operation, and its path where no fused operator runs inside."""


class Recorder:
    """The paths found so far, and the function of torch that is running."""

    def __init__(self) -> None:
        self.paths: Paths = {}
        self.function = ""
        self.fused = False

    def add(self, operation: str, path: str) -> None:
        """Take down a path of an operation, once."""
        before = self.paths[operation].split("+") if operation in self.paths else []
        if path not in before:
            self.paths[operation] = "+".join([*before, path])


_open: ContextVar[Recorder | None] = ContextVar("recorder", default=None)


def note(operation: str, path: str) -> None:
    """Say that an operation takes a path; nothing happens unless `recorded` is open."""
    if torch.compiler.is_compiling():
        return
    recorder = _open.get()
    if recorder is not None:
        recorder.add(operation, path)


def note_chunked(operation: str, x: Tensor) -> None:
    """Say that an operation on x runs as batched products of plain PyTorch.

    On a CPU there is no faster form; on an accelerator there are fused kernels, that did not run.
    """
    note(operation, CHUNKED if x.device.type == "cpu" else REFERENCE)


@contextmanager
def recorded() -> Iterator[Paths]:
    """Collect the paths of what runs inside, in this thread and in its backward passes."""
    recorder = Recorder()
    token = _open.set(recorder)
    try:
        with _Functions(recorder), _Operators(recorder):
            yield recorder.paths
    finally:
        _open.reset(token)


def name_of(paths: Mapping[str, str]) -> str:
    """One name for all: the distinct paths of the operations that decide speed, by first use.

    Minor operations (a convolution over four tokens) count only where there is no other, so that
    native code for them does not name what plain PyTorch decides. Where no operation is known, as
    in a body that loops over time by itself, all is plain PyTorch: `reference`.
    """
    major = [path for operation, path in paths.items() if operation not in MINOR]
    words = "+".join(major or paths.values()).split("+")
    return "+".join(dict.fromkeys(words)) or REFERENCE


class _Functions(TorchFunctionMode):
    """Sees the functions of which torch chooses the implementation."""

    def __init__(self, recorder: Recorder) -> None:
        super().__init__()
        self.recorder = recorder

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Call the function; where no fused operator ran in it, say so."""
        if func not in FUNCTIONS:
            return func(*args, **(kwargs or {}))
        operation, unfused = FUNCTIONS[func]
        self.recorder.function, self.recorder.fused = operation, False
        try:
            result = func(*args, **(kwargs or {}))
        finally:
            self.recorder.function = ""
        if not self.recorder.fused:
            self.recorder.add(operation, unfused)
        return result


class _Operators(TorchDispatchMode):
    """Sees every operator of torch that is called, below autograd and autocast."""

    def __init__(self, recorder: Recorder) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.recorder = recorder

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Take the operator down and call it."""
        name: str = func._schema.name
        if name in FUSED:
            self.recorder.fused = True
            self.recorder.add(self.recorder.function or FUSED[name][0], FUSED[name][1])
        elif name.startswith(NATIVE_NAMESPACE) and _on_cpu(args):
            operation = name.removeprefix(NATIVE_NAMESPACE).removesuffix("_backward")
            self.recorder.add(operation, NATIVE)
        return func(*args, **(kwargs or {}))


def _on_cpu(args: tuple[Any, ...]) -> bool:
    """Whether the first tensor is on a CPU; elsewhere an operator is other code, which notes it."""
    return next((x.device.type == "cpu" for x in args if isinstance(x, Tensor)), True)
