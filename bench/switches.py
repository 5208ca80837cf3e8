"""Variables of the environment that choose how this machine computes. Rows say what came of them.

They are no part of a run: the same run on another machine may need another choice.
"""

from __future__ import annotations

import os

from bench.errors import unknown

SWITCHES = {
    "SEQBENCH_PRODUCTS": ("auto", "onednn", "mkl"),  # bench/training/products.py
    "SEQBENCH_ALLOCATOR": ("auto", "system"),  # bench/training/allocator.py
}
"""The values of each; the first is the default."""


def switch(name: str) -> str:
    """The value of a switch.

    Raises:
        UserError: it is set to what it cannot be.
    """
    choices = SWITCHES[name]
    value = os.environ.get(name, choices[0])
    if value not in choices:
        raise unknown(name, value, choices)
    return value


def check_switches() -> None:
    """Raise UserError if any is set wrongly, before every cell of a study says so."""
    for name in SWITCHES:
        switch(name)
