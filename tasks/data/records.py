"""Records of equal size in one file that many processes fill at once, without locks.

For examples that are slow to make and the same whoever makes them. A record is kept with a checksum
of itself and its number: one that was never written, or of which a part is missing after a crash,
is told from a whole one and made again. Two processes that make the same record write the same
bytes to the same place. The file is sparse; it takes the room of the records in it.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

CHECKSUM_BYTES = 4


@dataclass(frozen=True)
class Records:
    """Records of `size` bytes in the file `path`; where it cannot be written, nothing is kept."""

    path: Path
    size: int

    def get(self, number: int, make: Callable[[int], bytes]) -> bytes:
        """The record of a number, made and written if it is not there.

        Args:
            number: from 0.
            make: what makes the record of a number; the same bytes whenever it is called.
        """
        offset = number * (self.size + CHECKSUM_BYTES)
        if self._descriptor is not None:
            found = os.pread(self._descriptor, self.size + CHECKSUM_BYTES, offset)
            record = found[CHECKSUM_BYTES:]
            if len(record) == self.size and found[:CHECKSUM_BYTES] == _checksum(number, record):
                return record
        record = make(number)
        if len(record) != self.size:
            raise ValueError(f"record {number} has {len(record)} bytes, not {self.size}")
        if self._descriptor is not None:
            os.pwrite(self._descriptor, _checksum(number, record) + record, offset)
        return record

    @cached_property
    def _descriptor(self) -> int | None:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            return os.open(self.path, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError:
            return None


def _checksum(number: int, record: bytes) -> bytes:
    return zlib.crc32(record, number + 1).to_bytes(CHECKSUM_BYTES, "little")
