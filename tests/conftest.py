"""What holds for every test."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

# One thread: the suite runs in parallel processes, and threads that wait for each other at every
# operation of a tiny tensor are far slower than none.
torch.set_num_threads(1)
os.environ.setdefault("OMP_NUM_THREADS", "1")  # for the processes that tests start

TEST_DATA = "SEQBENCH_TEST_DATA"
"""The variable that names a folder with published files, for tests that need the true ones."""


@pytest.fixture(scope="session")
def small_sets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("small_sets")
    from tests import cases_signal  # imports every task, which most tests do not need

    cases_signal.write(root)
    return root


@pytest.fixture
def small(small_sets: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of small data sets of the true formats."""
    from tests import cases_signal

    cases_signal.use(small_sets, monkeypatch)
    return small_sets


@pytest.fixture
def true_files(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """The folder of a set of published files, from which the named tasks then read."""

    def use(name: str, *modules: str) -> Path:
        given = os.environ.get(TEST_DATA)
        if not given or not (Path(given) / name).is_dir():
            pytest.skip(f"{TEST_DATA} names no folder with {name}")
        for module in modules:
            monkeypatch.setattr(f"tasks.{module}.folder_of", lambda _: Path(given) / name)
        return Path(given) / name

    return use
