"""Bad fields of tasks are errors that say what is valid."""

from __future__ import annotations

import math

import pytest

from tasks import TASKS


@pytest.mark.parametrize(
    ("name", "fields", "message"),
    [
        ("parity", {"length": 0}, "length must be an integer of at least 1, not 0"),
        ("parity", {"length": 8.0}, "length must be an integer of at least 1, not 8.0"),
        ("parity", {"length": True}, "length must be an integer of at least 1, not True"),
        ("parity", {"n_train": 0}, "n_train must be an integer of at least 1, not 0"),
        ("parity", {"n_val": None}, "n_val must be an integer of at least 1, not None"),
        ("parity", {"n_test": -1}, "n_test must be an integer of at least 1, not -1"),
        ("adding", {"length": 1}, "length must be an integer of at least 2, not 1"),
        (
            "selective_copy",
            {"length": 32},
            r"length must be at least 2 \* n_data \+ 1 = 33, not 32",
        ),
        ("selective_copy", {"n_data": 0}, "n_data must be an integer of at least 1, not 0"),
        ("selective_copy", {"vocabulary": 3}, "vocabulary must be an integer of at least 4, not 3"),
        ("mqar", {"length": 65}, "length must be even, not 65"),
        (
            "mqar",
            {"length": 64, "n_pairs": 17},
            r"length must be at least 4 \* n_pairs = 68, not 64",
        ),
        ("mqar", {"n_pairs": 0}, "n_pairs must be an integer of at least 1, not 0"),
        ("mqar", {"vocabulary": 64}, "vocabulary must be larger than length = 64, not 64"),
        ("mqar", {"power_a": 0}, "power_a must be above 0 and at most 1, not 0"),
        ("mqar", {"power_a": math.nan}, "power_a must be above 0 and at most 1, not nan"),
        ("mqar", {"power_a": "1"}, "power_a must be a number, not '1'"),
        ("mqar", {"random_non_queries": 1}, "random_non_queries must be true or false, not 1"),
        ("digits", {"length": 65}, r"length must be one of \[16, 64, 256, 1024\], not 65"),
        ("smnist5k", {"length": 28}, r"one of \[49, 196, 784, 3136, 12544\], not 28"),
        (
            "python_bytes",
            {"length": 70000},
            "length must be at most n_eval_bytes = 65536, not 70000",
        ),
        ("python_bytes", {"n_eval_bytes": 0}, "n_eval_bytes must be an integer of at least 1"),
    ],
)
def test_bad_fields_raise_and_say_what_is_valid(
    name: str, fields: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        TASKS[name](**fields)  # type: ignore[arg-type]
