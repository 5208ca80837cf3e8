"""What holds for every test, and what tests of several files begin with."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch

if TYPE_CHECKING:
    from bench.records.store import Store

# One thread: the suite runs in parallel processes, and threads that wait for each other at every
# operation of a tiny tensor are far slower than none.
torch.set_num_threads(1)
os.environ.setdefault("OMP_NUM_THREADS", "1")  # for the processes that tests start


TEST_DATA = "SEQBENCH_TEST_DATA"
"""The variable that names a folder with published files, for tests that need the true ones."""


@pytest.fixture
def own_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test sees blocks of examples that another drew."""
    import tasks.task

    monkeypatch.setattr(tasks.task, "_BLOCKS", tasks.task._BlockCache())


@pytest.fixture(scope="session")
def data_sets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache with small data sets of the true formats."""
    from tests import task_cases

    root = tmp_path_factory.mktemp("data_sets")
    task_cases.write(root)
    return root


@pytest.fixture
def small_data_sets(data_sets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tasks read these small data sets, whatever is on this machine."""
    from tests import task_cases

    task_cases.use(data_sets, monkeypatch)


@pytest.fixture
def small(data_sets: Path, small_data_sets: None) -> Path:
    """The folder of those small data sets."""
    return data_sets


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


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """An empty store of rows."""
    from bench.records.store import Store

    return Store(tmp_path)


@pytest.fixture
def filled(store: Store) -> Store:
    """A store with the rows of a small study, some of every status."""
    from tests import synthetic

    synthetic.fill(store, synthetic.runs(**synthetic.SMALL))
    return store
