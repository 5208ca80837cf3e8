"""Images and labels in the idx format of MNIST: http://yann.lecun.com/exdb/mnist, gzipped.

A header of big-endian 32-bit numbers (0x0800 + dimensions, then each dimension), then bytes.
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from tasks.data.errors import DataError

UNSIGNED_BYTES = 0x0800


@cache
def read_images(path: Path) -> Tensor:
    """Images (N, height, width) uint8."""
    return _read(path, 3)


@cache
def read_labels(path: Path) -> Tensor:
    """Labels (N,) int64."""
    return _read(path, 1).long()


def _read(path: Path, n_dimensions: int) -> Tensor:
    try:
        content = gzip.decompress(path.read_bytes())
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{path} is no gzip file: {error}") from None
    header = 4 * (1 + n_dimensions)
    if len(content) < header:
        raise DataError(f"{path} has {len(content)} bytes, and a header alone has {header}")
    magic, *shape = struct.unpack_from(f">{1 + n_dimensions}I", content)
    if magic != UNSIGNED_BYTES + n_dimensions:
        raise DataError(
            f"{path} begins with {magic:#06x}, not {UNSIGNED_BYTES + n_dimensions:#06x}: "
            f"not {n_dimensions} dimensions of bytes"
        )
    if len(content) - header != math.prod(shape):
        raise DataError(
            f"{path} has {len(content) - header} values, and its header says {tuple(shape)}"
        )
    return torch.frombuffer(bytearray(content), dtype=torch.uint8, offset=header).reshape(shape)
