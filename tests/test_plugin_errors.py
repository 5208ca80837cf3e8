"""What the code of another package raises is one line that says whose it is."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench import plugins
from bench.catalogue import check, make_body
from bench.errors import UserError
from bench.spec import Choice, parse_run
from tests.packages import install

FAULTY = """
from dataclasses import dataclass
from typing import ClassVar

from architectures.gru import Gru
from architectures.body import UnsupportedError
from tasks.digits import Digits
from tasks.parity import Parity


class Mistyped(Gru):
    def __init__(self, width: int, *, layers: int = 2) -> None:
        super().__init__(width, layer=layers)


class Fussy(Gru):
    def __init__(self, width: int, *, layers: int = 2) -> None:
        super().__init__(width, layers=layers)

    @classmethod
    def width_multiple(cls, **options: int) -> int:
        return {2: 1}[options["layers"]]


class Leaver(Gru):
    def __init__(self, width: int, *, layers: int = 2) -> None:
        raise SystemExit("no more")


class Refusing(Gru):
    def __init__(self, width: int, *, layers: int = 2) -> None:
        if layers > 2:
            raise UnsupportedError("it cannot be that deep")
        if layers < 2:
            raise ValueError("layers must be 2")
        raise MemoryError("none left")


class TooLarge(Gru):
    def __init__(self, width: int, *, layers: int = 2) -> None:
        raise RuntimeError("can't allocate memory\\nat all")


@dataclass(frozen=True, kw_only=True)
class Mischecked(Parity):
    def __post_init__(self) -> None:
        self.length + "tokens"


@dataclass(frozen=True, kw_only=True)
class Unread(Digits):
    def examples(self, split, seed, indices):
        return {}["digits"]
"""
BODIES = ["Mistyped", "Fussy", "Leaver", "Refusing", "TooLarge"]
TASKS = ["Mischecked", "Unread"]
TYPE_ERROR = "TypeError: Gru.__init__() got an unexpected keyword argument 'layer'"


def registered(classes: list[str]) -> dict[str, str]:
    return {f"faulty_{name.lower()}": f"outside_faulty:{name}" for name in classes}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("faulty")
    names = {"seqbench.architectures": registered(BODIES), "seqbench.tasks": registered(TASKS)}
    install(folder, "outside-faulty", {"outside_faulty.py": FAULTY}, names, "0.1")
    return folder


@pytest.fixture
def _installed(site: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.syspath_prepend(site)
    plugins.outside.cache_clear()
    yield
    plugins.outside.cache_clear()


def refused(**fields: object) -> str:
    """What is said of a run that cannot be made."""
    given = {"architecture": "gru", "task": "parity", "length": 16, "width": 8, **fields}
    with pytest.raises(UserError) as caught:
        check([parse_run(given)])
    return str(caught.value)


@pytest.mark.usefixtures("_installed")
def test_whatever_a_body_raises_is_one_line() -> None:
    theirs = "raised by architecture 'faulty_mistyped' of outside-faulty 0.1"
    mistyped = refused(architecture="faulty_mistyped")
    assert mistyped == f"architecture faulty_mistyped: {TYPE_ERROR}; {theirs}"
    leaver = refused(architecture="faulty_leaver")
    assert leaver.startswith("architecture faulty_leaver: SystemExit: no more; raised by")
    fussy = {"name": "faulty_fussy", "layers": 3}
    assert "KeyError: 3; raised by" in refused(architecture=fussy, width=None, params=1000)


@pytest.mark.usefixtures("_installed")
def test_of_a_body_inside_another_it_is_said_whose_it_is() -> None:
    pattern = {"name": "hybrid", "pattern": ["gru", "faulty_mistyped"]}
    said = refused(architecture=pattern)
    assert said.startswith("architecture hybrid(")
    assert said.endswith(
        f"{TYPE_ERROR}; raised by architecture 'faulty_mistyped' of outside-faulty 0.1"
    )


@pytest.mark.usefixtures("_installed")
def test_whatever_a_task_raises_is_one_line() -> None:
    said = refused(task="faulty_mischecked")
    assert said.startswith("task faulty_mischecked: TypeError: unsupported operand type(s) for +:")
    assert said.endswith("; raised by task 'faulty_mischecked' of outside-faulty 0.1")
    said = refused(task="faulty_unread")
    assert said.startswith("task faulty_unread: KeyError: 'digits'; raised by task")


@pytest.mark.usefixtures("_installed")
def test_what_was_written_for_the_user_stays_as_it_is() -> None:
    choice = {"name": "faulty_refusing", "layers": 1}
    assert refused(architecture=choice).endswith("faulty_refusing(layers=1): layers must be 2")
    check([parse_run({"architecture": {**choice, "layers": 3}, "task": "parity", "length": 16})])


@pytest.mark.usefixtures("_installed")
def test_a_lack_of_memory_is_still_one() -> None:
    """A row says `oom` of it, which is no fault of a package."""
    with pytest.raises(MemoryError, match="none left"):
        make_body(Choice(name="faulty_refusing"), 8)
    with pytest.raises(RuntimeError, match="can't allocate memory"):
        make_body(Choice(name="faulty_toolarge"), 8)
    said = refused(architecture="faulty_toolarge")
    assert said == "architecture faulty_toolarge at width 8: can't allocate memory"


def test_a_fault_of_our_own_is_not_put_down_to_anyone() -> None:
    with pytest.raises(TypeError), plugins.answered_for("architectures", Choice(name="gru")):
        raise TypeError


@pytest.mark.parametrize("command", ["run", "sweep"])
def test_the_command_prints_that_line_and_writes_nothing(
    command: str, site: Path, tmp_path: Path
) -> None:
    if command == "run":
        words = ["run", "-a", "faulty_mistyped", "-t", "parity", "-l", "16", "--into", "runs"]
    else:
        words = ["sweep", "."]
        (tmp_path / "study.yaml").write_text(
            "title: t\nbase: {width: 8}\n"
            "grid: {architecture: [gru, faulty_mistyped], task: [parity], length: [16]}\n"
        )
    before = list(tmp_path.iterdir())
    path = os.pathsep.join([str(site), *sys.path])
    done = subprocess.run(
        [sys.executable, "-m", "bench", *words],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": path},
        timeout=240,
    )
    assert (done.returncode, done.stdout) == (2, "")
    line = f"bench: .*{re.escape(TYPE_ERROR)}; raised by .* of outside-faulty 0.1\n"
    assert re.fullmatch(line, done.stderr)
    assert list(tmp_path.iterdir()) == before
