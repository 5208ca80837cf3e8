"""Text for a terminal, whatever is in it."""

from __future__ import annotations

import sys


def printable(text: str) -> str:
    """Text that does nothing to a terminal but stand in it; line breaks stay."""
    return "".join(
        sign if sign.isprintable() or sign == "\n" else "    " if sign == "\t" else _code(sign)
        for sign in text
    )


def one_line(text: str) -> str:
    """The same without line breaks."""
    return printable(" ".join(text.split("\n")))


def can_print(signs: str) -> bool:
    """Whether the standard output takes these signs."""
    try:
        signs.encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        return False
    return True


def _code(sign: str) -> str:
    return (
        sign.encode("ascii", "backslashreplace").decode()
        if ord(sign) > 127
        else f"\\x{ord(sign):02x}"
    )
