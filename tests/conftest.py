"""What holds for every test, and what tests of several files begin with."""

from __future__ import annotations

import atexit
import os
import signal
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch

if TYPE_CHECKING:
    from bench.records.store import Store
    from tasks.data.data_set import DataFile
    from tests.cached_files import Place
    from tests.cases_labelling import Known
    from tests.local_cluster import LocalCluster

# One thread: the suite runs in parallel processes, and threads that wait for each other at every
# operation of a tiny tensor are far slower than none.
torch.set_num_threads(1)
os.environ.setdefault("OMP_NUM_THREADS", "1")  # for the processes that tests start

# A shell's background job is deaf to SIGINT; the processes that tests start must not be.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Tests wait neither for a sweep on this machine nor for each other.
MACHINE_LOCK = Path(tempfile.gettempdir()) / f"seqbench-tests-{os.getpid()}.lock"
os.environ["SEQBENCH_MACHINE_LOCK"] = str(MACHINE_LOCK)
atexit.register(MACHINE_LOCK.unlink, missing_ok=True)


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


@pytest.fixture(scope="session")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Known]:
    """A folder of small sets of sentences, pronunciations and translations, and what they hold."""
    from tests.cases_labelling import write_data_sets

    folder = tmp_path_factory.mktemp("labelled")
    return folder, write_data_sets(folder)


@pytest.fixture
def known(labelled: tuple[Path, Known], monkeypatch: pytest.MonkeyPatch) -> Known:
    """What those sets hold, now that tasks read them."""
    from tests.cases_labelling import use_data_sets

    use_data_sets(monkeypatch, labelled[0])
    return labelled[1]


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cache of data sets is a folder in which there is nothing yet."""
    monkeypatch.setenv("SEQBENCH_DATA", str(tmp_path / "cache"))


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """Register a set of files and put their contents into its folder by hand."""
    from tasks.data.data_set import DataSet
    from tasks.data.sets import DATA_SETS

    root = tmp_path / "a cache, with blanks"
    monkeypatch.setenv("SEQBENCH_DATA", str(root))

    def put(*files: DataFile, **contents: bytes | None) -> Path:
        made = DataSet(title="A set", source="here", licence="free", files=files)
        monkeypatch.setitem(DATA_SETS, "a_set", made)
        folder = root / "a_set"
        for file in files:
            content = contents.get(file.name.partition(".")[0].replace(" ", "_"))
            if content is not None:
                folder.mkdir(parents=True, exist_ok=True)
                (folder / file.name).write_bytes(content)
        return folder

    return put


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


@pytest.fixture
def at_step(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Counter[str]]]:
    """Do something when a step begins or an evaluation is at work, counting what is done."""
    from bench.training import interrupts
    from bench.training.module import TrainingModule

    before = {number: signal.getsignal(number) for number in interrupts.SIGNALS}
    interrupts.install()
    counts: Counter[str] = Counter()
    plans: dict[tuple[str, int], Callable[[], None]] = {}

    def watch(name: str) -> None:
        original = getattr(TrainingModule, name)

        def watched(self: TrainingModule, batch: object, batch_index: int) -> object:
            counts[name] += 1
            act = plans.pop((name, batch_index), None)
            if act is not None:
                act()
            return original(self, batch, batch_index)

        monkeypatch.setattr(TrainingModule, name, watched)

    for name in ("training_step", "validation_step", "test_step"):
        watch(name)

    def plan(act: Callable[[], None], step: int, name: str = "training_step") -> Counter[str]:
        counts.clear()
        plans[name, step] = act
        return counts

    yield plan
    for number, handler in before.items():
        signal.signal(number, handler)
    interrupts._received = None


@pytest.fixture(scope="session")
def shared_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    """A real Slurm of four nodes with two CPUs each."""
    from tests.local_cluster import LocalCluster

    cluster = LocalCluster(tmp_path_factory.mktemp("slurm"))
    cluster.up("--nodes", "4", "--cpus", "2", "--memory", "8000")
    yield cluster
    cluster.down()


@pytest.fixture
def cluster(
    shared_cluster: LocalCluster, monkeypatch: pytest.MonkeyPatch
) -> Iterator[LocalCluster]:
    """That Slurm, whole and without jobs, which programs then find."""
    monkeypatch.setenv("SLURM_CONF", shared_cluster.environment["SLURM_CONF"])
    shared_cluster.up()
    yield shared_cluster
    shared_cluster.up()
    shared_cluster.cancel_all()


@pytest.fixture
def both(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, ...]]:
    """The names of both trackers, whose packages are here and keep to a folder of their own."""
    for name in ("tensorboardX", "wandb"):
        pytest.importorskip(name, reason=f"{name} is not installed")
    import wandb

    home = str(tmp_path_factory.mktemp("home"))
    for variable in ("WANDB_CACHE_DIR", "WANDB_DATA_DIR", "WANDB_CONFIG_DIR"):
        monkeypatch.setenv(variable, home)
    yield ("wandb", "tensorboard")
    with suppress(OSError):  # where its process was killed
        wandb.teardown()


@pytest.fixture
def watched_closely(monkeypatch: pytest.MonkeyPatch) -> None:
    """A point of the training loss every third step, and no tracker that the user asked for."""
    from bench.trackers import choice
    from bench.training import module

    monkeypatch.setattr(module, "CHECK_EVERY", 3)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.delenv(choice.VARIABLE, raising=False)
