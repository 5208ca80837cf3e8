"""A faster way for one operation on a CUDA device: when it is taken, and why it is not.

That a package can be imported says little: sources of mamba-ssm build without the kernel that they
import, and Triton compiles for a device when it is first asked. So a path is taken on a device only
after it has run there once, on small inputs, and gave what the reference gives in float64 on the
CPU, with all gradients. SEQBENCH_KERNELS and `library.reasons` hold for it as for code on the CPU.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from architectures.kernels.native import library
from architectures.kernels.native.build import BuildError

PATHS: dict[str, CudaPath] = {}


class CudaPath:
    """One operation by one package. `check` is set beside the operation's reference."""

    device_type = "cuda"

    def __init__(
        self,
        operation: str,
        package: str,
        load: Callable[[], object],
        *,
        dtypes: tuple[torch.dtype, ...] = (torch.float32,),
        bound: float,
    ) -> None:
        """`load` imports what runs, and `bound` is that of the self-check's error."""
        self.operation, self.package, self.load = operation, package, load
        self.dtypes, self.bound = dtypes, bound
        self.check: Callable[[torch.device], float] | None = None
        """Runs path and reference, returns the largest relative error."""
        PATHS[operation] = self

    def takes(self, *tensors: Tensor) -> bool:
        """Whether the path runs for these: on one CUDA device, of one dtype that it knows."""
        dtype = tensors[0].dtype
        if dtype not in self.dtypes or any(tensor.dtype != dtype for tensor in tensors):
            return False
        return self.takes_device(*tensors)

    def takes_bfloat16(self, *tensors: Tensor) -> bool:
        """Whether all are bfloat16, and the path would take them as float32."""
        if any(tensor.dtype != torch.bfloat16 for tensor in tensors):
            return False
        return torch.float32 in self.dtypes and self.takes_device(*tensors)

    def takes_device(self, *tensors: Tensor) -> bool:
        """Whether all are on one CUDA device where the path was seen to be right."""
        device = tensors[0].device
        if device.type != self.device_type or any(x.device != device for x in tensors):
            return False
        return ready(self.operation, device.type, device.index)

    def name_for(self, dtype: torch.dtype, device: torch.device) -> str | None:
        """The package, if it runs for this dtype and device; None if not."""
        if dtype not in (*self.dtypes, torch.bfloat16) or device.type != self.device_type:
            return None
        return self.package if ready(self.operation, device.type, device.index) else None

    def error_on(self, device: torch.device) -> float:
        """The error that the self-check found on a device; infinite where it has not run."""
        kernel = library.KERNELS.get(_name(self.operation, device))
        return math.inf if kernel is None else kernel.error


class _OnDevice(library.Kernel):
    """A path on one device, as a kernel of the library, under the name of both."""

    def __init__(self, path: CudaPath, device: torch.device) -> None:
        super().__init__(_name(path.operation, device), path.dtypes, path.bound)
        self.path = path
        if path.check is not None:
            check = path.check
            self.check = lambda: check(device)

    def _load(self) -> None:
        try:
            self.path.load()
        # A package built for another torch or device fails in whatever way it likes.
        except Exception as error:
            package, kind = self.path.package, type(error).__name__
            raise BuildError(f"{package} cannot be imported: {kind}: {error}") from error


def ready(operation: str, device_type: str, index: int | None) -> bool:
    """Whether a path may be used on a device; runs and checks it there at the first call.

    Raises:
        RuntimeError: SEQBENCH_KERNELS=native, and it cannot be used.
    """
    if library.chosen() == "reference":
        return False
    device = torch.device(device_type) if index is None else torch.device(device_type, index)
    name = _name(operation, device)
    if name not in library.KERNELS:
        _OnDevice(PATHS[operation], device)
    return library.ready(name)


# torch.compile calls it once while it traces.
ready._dynamo_marked_constant = True  # type: ignore[attr-defined]


def _name(operation: str, device: torch.device) -> str:
    if device.type == "cuda" and device.index is None:
        device = torch.device("cuda", torch.cuda.current_device())
    return f"{operation} on {device}"
