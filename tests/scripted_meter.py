"""A meter of memory that measures what a test says."""

from __future__ import annotations


class Scripted:
    """Holds some bytes at first; more are taken, or given back, by hand."""

    method = "scripted"

    def __init__(self, n_bytes: int = 0) -> None:
        self.now = self.most = n_bytes

    def take(self, n_bytes: int) -> None:
        self.now += n_bytes
        self.most = max(self.most, self.now)

    def live(self) -> int:
        return self.now

    def reset_peak(self) -> None:
        self.most = self.now

    def peak(self) -> int:
        return self.most

    def settle(self) -> None:
        pass

    def extra(self) -> dict[str, int]:
        return {"allocator_retries": 3}
