"""Freed memory stays with the process, where the C library is glibc.

By default glibc maps every block over some MiB anew and gives it back when it is freed: a training
step then pays a page fault for every 4 KiB of every large tensor, again and again. With both
thresholds raised (mallopt(3): M_MMAP_THRESHOLD, M_TRIM_THRESHOLD) it pays once.

For processes that train or time, and never for one that measures memory, whose resident set has to
follow what is allocated: a setting of mallopt outlives a fork, so it is made in the worker of a
cell, and not in the process from which workers are forked. SEQBENCH_ALLOCATOR chooses: `auto`
(default), or `system`, which leaves the C library as it is.
"""

from __future__ import annotations

import ctypes
import os
import re
from pathlib import Path

from bench.switches import switch

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # mallopt's numbers for them, from malloc.h
MMAP_BYTES = 1 << 30
TRIM_BYTES = 2**31 - 1  # the largest int
KEPT = "glibc, freed memory kept"
SET_BY_USER = ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES")
"""Variables that glibc itself reads: whoever sets one knows better."""


def keep_freed_memory() -> str:
    """Raise glibc's thresholds in this process; returns what the row says of its allocator.

    Raises:
        UserError: SEQBENCH_ALLOCATOR is neither `auto` nor `system`.
    """
    choice = switch("SEQBENCH_ALLOCATOR")
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "gnu_get_libc_version"):
        return "the C library's, as it is"
    other = other_allocator()
    if other is not None:
        return f"{other}, as it is"
    if choice == "system":
        return "glibc, as it is"
    chosen = [name for name in SET_BY_USER if os.environ.get(name)]
    if chosen:
        return f"glibc, as {chosen[0]} has it"
    # Each returns 1 if it was done.
    done = libc.mallopt(M_MMAP_THRESHOLD, MMAP_BYTES) and libc.mallopt(M_TRIM_THRESHOLD, TRIM_BYTES)
    return KEPT if done else "glibc, as it is: mallopt refused"


def other_allocator() -> str | None:
    """The file that `malloc` comes from, where it took the place of glibc's, as LD_PRELOAD does."""
    process = ctypes.CDLL(None)
    found = _Symbol()
    if not process.dladdr(ctypes.cast(process.malloc, ctypes.c_void_p), ctypes.byref(found)):
        return None
    name = Path(os.fsdecode(found.file)).name
    return None if re.match(r"libc[.-]", name) else name


class _Symbol(ctypes.Structure):
    """Dl_info of dladdr(3): where a symbol is."""

    file: bytes
    _fields_ = (
        ("file", ctypes.c_char_p),
        ("base", ctypes.c_void_p),
        ("name", ctypes.c_char_p),
        ("address", ctypes.c_void_p),
    )
