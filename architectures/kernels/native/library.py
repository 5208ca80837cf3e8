"""The native code of an operation: compiled, loaded and checked at first use, or why it is not.

Code for other devices (kernels/cuda/) is taken and refused by the same rules.

SEQBENCH_KERNELS chooses: `auto` (default) takes native code where there is any, `reference` never
does, and `native` makes it an error that native code cannot be had on this machine. Inputs that it
does not take (float64, an accelerator, mixed dtypes) go to the reference in any case.

OpenMP is that of torch, which is loaded before, and as many threads as torch has are used. In a
process forked from one with running threads it is one: OpenMP would wait for threads that the fork
did not take along.
"""

from __future__ import annotations

import ctypes
import logging
import math
import os
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from architectures.kernels.native.build import BuildError, build

CHOICES = ("auto", "native", "reference")
LIBRARY = torch.library.Library("seqbench", "FRAGMENT")
KERNELS: dict[str, Kernel] = {}
_FLOPS: dict[Any, Callable[..., float]] = {}  # of operations that torch's counter does not know yet
_log = logging.getLogger(__name__)


class Kernel:
    """The native code of one operation. `reason` says why it is not used, None if it is."""

    def __init__(self, name: str, dtypes: tuple[torch.dtype, ...], bound: float) -> None:
        """`bound` is that of the self-check's error."""
        self.name, self.dtypes, self.bound = name, dtypes, bound
        self.reason: str | None = None
        self.check: Callable[[], float] | None = None
        """Set beside the reference: runs both, returns the largest relative error."""
        self.error = math.inf  # that the self-check found
        self._code: ctypes.CDLL | None = None
        self._functions: dict[str, Any] = {}
        self._tried = False
        self._lock = threading.RLock()
        KERNELS[name] = self

    def takes(self, *tensors: Tensor) -> bool:
        """Whether native code runs for these: on a CPU, of one dtype that it knows."""
        dtype = tensors[0].dtype
        if dtype not in self.dtypes:
            return False
        if any(tensor.dtype != dtype or tensor.device.type != "cpu" for tensor in tensors):
            return False
        return ready(self.name)

    def takes_bfloat16(self, *tensors: Tensor) -> bool:
        """Whether all are bfloat16, and native code would take them as float32."""
        if any(x.dtype != torch.bfloat16 or x.device.type != "cpu" for x in tensors):
            return False
        return torch.float32 in self.dtypes and ready(self.name)

    def prepare(self) -> None:
        """Compile, load and check, once in a process."""
        with self._lock:
            if self._tried:
                return
            # In a thread of its own: autocast, grad mode and dispatch modes are the caller's alone.
            worker = threading.Thread(target=self._prepare, name=f"prepare {self.name}")
            worker.start()
            worker.join()
            self._tried = True
        if self.reason is not None:
            _log.warning("%s runs as plain PyTorch: %s", self.name, self.reason)

    def _prepare(self) -> None:
        try:
            self._load()
            if self.check is not None:
                self.error = self.check()
            if not self.error <= self.bound:  # NaN is not below it either
                self.reason = (
                    f"its self-check found an error of {self.error:.1e}, above {self.bound:g}"
                )
        except BuildError as error:
            self.reason = str(error)
        except Exception as error:
            self.reason = f"its self-check raised {type(error).__name__}: {error}"

    def _load(self) -> None:
        self._code = ctypes.CDLL(str(self._built()))
        self._functions = {}  # none of a library that was loaded before

    def _built(self) -> Path:
        return build(self.name)

    def call(self, function: str, *arguments: Tensor | int | None) -> int:
        """Call a C function: tensors as pointers to their first element, whole numbers as long.

        Raises:
            TypeError: a tensor that the code would read or write beyond its end.
        """
        for tensor in arguments:
            if isinstance(tensor, Tensor) and not self._is_readable(tensor):
                raise TypeError(
                    f"native {function} takes contiguous CPU tensors of "
                    f"{', '.join(map(str, self.dtypes))}, not {tensor.dtype} of strides "
                    f"{tensor.stride()} on {tensor.device}"
                )
        if self._code is None:
            self.prepare()
        if self._code is None:
            raise RuntimeError(f"there is no native {self.name}: {self.reason}")
        called = self._functions.get(function)
        if called is None:
            called = self._functions[function] = getattr(self._code, function)
            called.restype = ctypes.c_long
            called.argtypes = [_c_type(argument) for argument in arguments]
        return int(called(*[_address(argument) for argument in arguments]))

    def _is_readable(self, tensor: Tensor) -> bool:
        """Whether the memory behind a tensor is what the C code takes it for."""
        right = tensor.dtype in self.dtypes or not (
            tensor.is_floating_point() or tensor.is_complex()
        )
        return right and tensor.device.type == "cpu" and tensor.is_contiguous()


def chosen() -> str:
    """SEQBENCH_KERNELS."""
    choice = os.environ.get("SEQBENCH_KERNELS", "auto")
    if choice not in CHOICES:
        raise ValueError(f"SEQBENCH_KERNELS is {choice!r}; choices: {', '.join(CHOICES)}")
    return choice


def ready(name: str) -> bool:
    """Whether an operation's native code may be used; makes it so at the first call.

    Raises:
        RuntimeError: SEQBENCH_KERNELS=native, and it cannot be had.
    """
    choice = chosen()
    if choice == "reference":
        return False
    kernel = KERNELS[name]
    kernel.prepare()
    if kernel.reason is not None and choice == "native":
        raise RuntimeError(f"SEQBENCH_KERNELS=native, but {name} has none: {kernel.reason}")
    return kernel.reason is None


# torch.compile calls it once while it traces; torch's own decorator would import the compiler here.
ready._dynamo_marked_constant = True  # type: ignore[attr-defined]


def reasons() -> dict[str, str]:
    """The operations that were to run natively in this process and could not, and why."""
    return {name: kernel.reason for name, kernel in KERNELS.items() if kernel.reason is not None}


def define(
    schema: str,
    run: Callable[..., Any],
    fake: Callable[..., Any],
    flops: Callable[..., float],
) -> Any:
    """Register an operation for the CPU with torch, its shapes for the compiler, and its FLOPs.

    `flops` is given the operation's arguments. For another device, see `implement`.
    """
    name = schema.partition("(")[0]
    LIBRARY.define(schema)
    implement(name, run, "CPU")
    torch.library.register_fake(f"seqbench::{name}", fake, lib=LIBRARY)
    packet = getattr(torch.ops.seqbench, name)
    _FLOPS[packet] = flops
    return packet


def implement(name: str, run: Callable[..., Any], device: str) -> None:
    """Give a defined operation its code for a device: torch's dispatch key, `CPU` or `CUDA`."""
    LIBRARY.impl(name, run, device)


def register_flops() -> None:
    """Tell torch's FlopCounterMode what the operations count: call it before counting.

    Not done at once, since the counter's module imports triton where it is installed: for the
    sake of a number that few ask for, and 0.8 s.
    """
    from torch.utils.flop_counter import register_flop_formula

    while _FLOPS:
        packet, flops = _FLOPS.popitem()
        register_flop_formula(packet, get_raw=True)(
            lambda *inputs, out_val, flops=flops: int(flops(*inputs))
        )


def differentiate_by(
    name: str, remember: Callable[..., None], differentiate: Callable[..., Any]
) -> None:
    """Give an operation its derivative, by `<name>_backward`, which has none: a clear error."""

    def refuse(ctx: Any, *gradients: Tensor) -> None:
        raise RuntimeError(f"the native {name} has no second derivative")

    torch.library.register_autograd(
        f"seqbench::{name}", differentiate, setup_context=remember, lib=LIBRARY
    )
    torch.library.register_autograd(f"seqbench::{name}_backward", refuse, lib=LIBRARY)


def relative_error(actual: Sequence[Tensor], exact: Sequence[Tensor]) -> float:
    """The largest error of any of the tensors, each relative to its largest value."""
    errors = []
    for a, e in zip(actual, exact, strict=True):
        scale = e.detach().abs().max()
        error = (a.detach().to(e.device, e.dtype) - e.detach()).abs().max()
        errors.append(error / torch.where(scale > 0, scale, 1.0))
    return float(torch.stack(errors).max())


def gradients(run: Callable[..., Sequence[Tensor]], inputs: Sequence[Tensor]) -> list[Tensor]:
    """Outputs of a call and its gradients by all inputs, for a fixed cotangent."""
    inputs = [tensor.detach().requires_grad_() for tensor in inputs]
    outputs = run(*inputs)
    cotangents = [
        torch.linspace(-0.5, 1, y.numel(), device="cpu").to(y.device, y.dtype).view(y.shape)
        for y in outputs
    ]
    return [*outputs, *torch.autograd.grad(outputs, inputs, cotangents)]


def n_threads() -> int:
    """As many as torch has; one where OpenMP would hang."""
    return 1 if _Fork.lost_threads else torch.get_num_threads()


def plain(tensor: Tensor) -> Tensor:
    """Contiguous, with a conjugation carried out: what a pointer can stand for."""
    return tensor.detach().resolve_conj().resolve_neg().contiguous()


def _c_type(argument: Tensor | int | None) -> type[ctypes.c_void_p | ctypes.c_long]:
    return ctypes.c_long if isinstance(argument, int) else ctypes.c_void_p


def _address(argument: Tensor | int | None) -> int | None:
    return argument.data_ptr() if isinstance(argument, Tensor) else argument


class _Fork:
    """Whether this process was forked from one with more than one thread."""

    had_threads = lost_threads = False

    @classmethod
    def before(cls) -> None:
        """Count the parent's threads; where the system does not tell, there may be many."""
        tasks = Path("/proc/self/task")
        cls.had_threads = not tasks.is_dir() or len(list(tasks.iterdir())) > 1

    @classmethod
    def after(cls) -> None:
        """In the child: remember it, and let go of locks that another thread may have held."""
        cls.lost_threads = cls.lost_threads or cls.had_threads
        for kernel in KERNELS.values():
            kernel._lock = threading.RLock()


os.register_at_fork(before=_Fork.before, after_in_child=_Fork.after)
