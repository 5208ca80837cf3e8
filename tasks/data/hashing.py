"""Splits by a hash of what is read, so that no example is in two of them."""

from __future__ import annotations

import hashlib

from tasks.task import Split

HELD_OUT_SHARE = 16
"""Of 256: the share held out for val, and as many again for test."""


def digest_of(text: str) -> bytes:
    """The sha256 of a text: its first byte says the split, the rest a place in it."""
    return hashlib.sha256(text.encode()).digest()


def split_of(text: str) -> Split:
    """The split of an example, from what is read of it alone."""
    first = digest_of(text)[0]
    if first < HELD_OUT_SHARE:
        return "val"
    return "test" if first < 2 * HELD_OUT_SHARE else "train"
