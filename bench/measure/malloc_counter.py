"""The malloc counter: the library to preload, and what it says inside a process that has it."""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path

from architectures.kernels.native.build import BuildError, build

SOURCE = Path(__file__).with_name("malloc_counter.c")
# No OpenMP: a preloaded library must not bring another one than torch's. An ordinary processor's
# instructions do.
FLAG_CHOICES: tuple[tuple[str, ...], ...] = ((),)


class CounterMissingError(RuntimeError):
    """Why allocations cannot be counted here."""


def library() -> Path:
    """The library for LD_PRELOAD, compiled on first use.

    Raises:
        CounterMissingError: no glibc, no compiler, or one that fails.
    """
    if not sys.platform.startswith("linux") or not hasattr(
        ctypes.CDLL(None), "gnu_get_libc_version"
    ):
        raise CounterMissingError("the C library is not glibc")
    try:
        return build(SOURCE, FLAG_CHOICES)
    except BuildError as error:
        raise CounterMissingError(str(error)) from None


class MallocCounter:
    """Bytes asked of malloc and its like and not freed, in this process."""

    method = "malloc-counter"

    def __init__(self) -> None:
        """Find the counter.

        Raises:
            CounterMissingError: this process was started without it.
        """
        process = ctypes.CDLL(None)
        try:
            self._live = process.seqbench_live_bytes
            self._peak = process.seqbench_peak_bytes
            self._reset = process.seqbench_reset_peak
        except AttributeError:
            raise CounterMissingError("LD_PRELOAD did not load the malloc counter") from None
        self._live.restype = self._peak.restype = ctypes.c_longlong
        self._reset.restype = None

    def live(self) -> int:
        """Bytes that are allocated now."""
        return int(self._live())

    def reset_peak(self) -> None:
        """Let the peak start again from what is allocated now."""
        self._reset()

    def peak(self) -> int:
        """The most bytes that were allocated at a time since the reset."""
        return int(self._peak())

    def settle(self) -> None:
        """Nothing: what is freed is subtracted at once."""

    def extra(self) -> dict[str, int]:
        """Nothing beside the peak."""
        return {}
