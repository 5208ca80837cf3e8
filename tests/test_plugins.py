"""Architectures and tasks of other packages: as good as built-in ones, and held to the same laws.

The packages are files in a folder on PYTHONPATH, and the command is the real one.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from bench.plugins import EntryPoint, Outside
from tests.packages import install

README = (Path(__file__).resolve().parents[1] / "README.md").read_text()
LEAKY = re.findall(r"```python\n(.*?)```", README, re.DOTALL)[0]  # with decay as its option
BODIES = (
    f"{LEAKY}\n\nimport os\n"
    + '''

class Peek(Leaky):
    """The same, and a little of the next input."""

    def forward(
        self, x: Tensor, state: State = None, *, lengths: Tensor | None = None
    ) -> tuple[Tensor, State]:
        y, h = super().forward(x, state, lengths=lengths)
        return y + 0.1 * torch.cat([x[:, 1:], torch.zeros_like(x[:, :1])], 1), h


class Dies(Leaky):
    """Takes its process with it as soon as it has to work."""

    def forward(
        self, x: Tensor, state: State = None, *, lengths: Tensor | None = None
    ) -> tuple[Tensor, State]:
        os._exit(3)
'''
)

COIN = '''
"""Copies of coins."""

from dataclasses import dataclass

import torch

from tasks.parity import Parity


@dataclass(frozen=True, kw_only=True)
class Coin(Parity):
    """Say what has just been read: 1 0 1 -> 1 0 1. Chance is 0.5."""

    def sample(self, rng, batch_size):
        batch = super().sample(rng, batch_size)
        batch.targets = batch.inputs
        return batch


class Undecorated(Parity):
    """A field that is none, since nothing makes it one."""

    bias: float = 0.5
'''

HOSTILE = """
from architectures.body import Body


class Unrelated:
    pass


def function():
    pass


class NoDefault(Body):
    def __init__(self, width: int, *, decay: float) -> None:
        super().__init__(width)


class Positional(Body):
    def __init__(self, width: int, decay: float = 0.9) -> None:
        super().__init__(width)


class Swallows(Body):
    def __init__(self, width: int, **options: float) -> None:
        super().__init__(width)


class NoType(Body):
    def __init__(self, width: int, *, decay=0.9) -> None:
        super().__init__(width)


class Unreadable(Body):
    def __init__(self, width: int, *, decay: "Nothing" = 0.9) -> None:
        super().__init__(width)


class Uncheckable(Body):
    def __init__(self, width: int, *, unrelated: Unrelated | None = None) -> None:
        super().__init__(width)


class NoWidth(Body):
    def __init__(self, *, decay: float = 0.9) -> None:
        super().__init__(8)


class NoMultiple(Body):
    @classmethod
    def width_multiple(cls, **options: object) -> int:
        return 0


class Raises(Body):
    def __init__(self, width: int) -> None:
        raise KeyError("width")
"""

# Names of the package `hostile`, what they load, and what is said of them.
PROBLEMS = {
    "missing": ("outside_hostile:Missing", "cannot be imported: AttributeError: module"),
    "no_module": ("outside_nowhere:Body", "cannot be imported: ModuleNotFoundError: No module"),
    "no_package": ("outside_needy:Body", "ModuleNotFoundError: No module named 'left_pad'"),
    "exits": ("outside_exits:Body", "cannot be imported: SystemExit: 0"),
    "syntax": ("outside_syntax:Body", "cannot be imported: SyntaxError:"),
    "unrelated": ("outside_hostile:Unrelated", "is no subclass of architectures.body.Body"),
    "function": ("outside_hostile:function", "is no subclass of architectures.body.Body"),
    "a_task": ("outside_coin:Coin", "is no subclass of architectures.body.Body"),
    "no_default": ("outside_hostile:NoDefault", "option 'decay' has to have a default"),
    "positional": ("outside_hostile:Positional", "option 'decay' has to be keyword-only"),
    "swallows": ("outside_hostile:Swallows", "option 'options' has to be keyword-only"),
    "no_type": ("outside_hostile:NoType", "option 'decay' has to have a type"),
    "unreadable": ("outside_hostile:Unreadable", "cannot be read: NameError: name 'Nothing'"),
    "uncheckable": ("outside_hostile:Uncheckable", "option 'unrelated' has a type that no study"),
    "no_width": ("outside_hostile:NoWidth", "the first argument of __init__ has to be width"),
    "no_multiple": ("outside_hostile:NoMultiple", "width_multiple has to be an integer"),
    "raises": ("outside_hostile:Raises", "none: architecture raises: KeyError: 'width'"),
    "Odd-Name": ("outside_bodies:Leaky", "a name has only a to z, 0 to 9 and _"),
    "gru": ("outside_bodies:Leaky", "seqbench has this name itself"),
}
TASK_PROBLEMS = {
    "a_body": ("outside_bodies:Leaky", "is no subclass of tasks.task.Task"),
    "undecorated": ("outside_coin:Undecorated", "it has to be a frozen dataclass"),
    "parity": ("outside_coin:Coin", "seqbench has this name itself"),
}


def bench(site: Path, *words: object):
    path = os.pathsep.join([str(site), *filter(None, [os.environ.get("PYTHONPATH")])])
    return subprocess.run(
        [sys.executable, "-m", "bench", *map(str, words)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
        timeout=240,
    )


@pytest.fixture(scope="module")
def fair(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two packages with which nothing is wrong that an installer could see."""
    site = tmp_path_factory.mktemp("fair")
    names = {name.lower(): f"outside_bodies.leaky:{name}" for name in ("Leaky", "Peek", "Dies")}
    bodies = {"outside_bodies/__init__.py": "", "outside_bodies/leaky.py": BODIES}
    install(site, "outside-bodies", bodies, {"seqbench.architectures": names}, "1.2")
    coin = {"seqbench.tasks": {"coin": "outside_coin:Coin"}}
    install(site, "outside-coin", {"outside_coin.py": COIN}, coin, "0.3")
    return site


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fair body among everything that can be wrong."""
    site = tmp_path_factory.mktemp("hostile")
    fair_one = {"seqbench.architectures": {"leaky": "outside_bodies:Leaky"}}
    install(site, "outside-bodies", {"outside_bodies.py": BODIES}, fair_one, "1.2")
    modules = {
        "outside_hostile.py": HOSTILE,
        "outside_coin.py": COIN,
        "outside_needy.py": "import left_pad\n",
        "outside_exits.py": "raise SystemExit(0)\n",
        "outside_syntax.py": "class Body(:\n",
    }
    groups = {
        "seqbench.architectures": {name: value for name, (value, _) in PROBLEMS.items()},
        "seqbench.tasks": {name: value for name, (value, _) in TASK_PROBLEMS.items()},
    }
    install(site, "outside-hostile", modules, groups, "6.6")
    for package in ("outside-left", "outside-right"):
        twin = {"seqbench.architectures": {"twin": "outside_bodies:Leaky"}}
        install(site, package, {}, twin)
    return site


@pytest.fixture(scope="module")
def doctored(hostile: Path) -> dict[str, str]:
    """What the doctor says of each name, its lines side by side."""
    done = bench(hostile, "doctor")
    assert done.returncode == 0, done.stdout + done.stderr
    said: dict[str, str] = {}
    for line in done.stdout.partition("kernel of each")[2].splitlines():
        name, _, text = line.strip().partition(" ")
        said[name] = f"{said.get(name, '')} {text.strip()}"
    return said


def test_the_list_says_what_it_is_and_whose(fair):
    done = bench(fair, "list", "architectures")
    assert done.returncode == 0, done.stderr
    lines = dict(line.split(maxsplit=1) for line in done.stdout.splitlines())
    described = "Exponential moving average of the projected input. State: h (B, D)."
    assert lines["leaky"] == f"{described} (outside-bodies 1.2)"
    assert list(lines)[-3:] == ["dies", "leaky", "peek"]
    lines = dict(
        line.split(maxsplit=1) for line in bench(fair, "list", "tasks").stdout.splitlines()
    )
    assert lines["coin"].endswith("Chance is 0.5. (outside-coin 0.3)")


@pytest.mark.parametrize("catalogue", ["architectures", "tasks"])
@pytest.mark.parametrize("kind", ["fair", "hostile"])
def test_the_list_imports_neither_torch_nor_the_package(kind, catalogue, request):
    code = (
        "import sys\nsys.path.insert(0, sys.argv.pop(1))\n"
        "from bench.cli import main\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code\n"
        "heavy = {'torch', 'lightning', 'pandas', 'numpy', 'architectures', 'tasks'}\n"
        "found = {m for m in sys.modules if m in heavy or m.startswith('outside_')}\n"
        "assert not found, found\n"
    )
    site = request.getfixturevalue(kind)
    words = [sys.executable, "-c", code, str(site), "list", catalogue]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "outside-" in done.stdout


def test_the_list_shows_what_cannot_be_used_and_goes_on(hostile):
    done = bench(hostile, "list", "architectures")
    assert done.returncode == 0, done.stderr
    lines = dict(line.split(maxsplit=1) for line in done.stdout.splitlines())
    assert "architecture 'gru' of outside-hostile 6.6: seqbench has" in lines["gru"]
    assert "outside-left 1.0 and outside-right 1.0: registered 2 times" in lines["twin"]
    assert "a name has only" in lines["Odd-Name"]
    assert lines["syntax"] == lines["no_module"] == "from outside-hostile 6.6"
    assert lines["leaky"].startswith("Exponential moving average")
    assert lines["lstm"].startswith("LSTM")


@pytest.mark.parametrize("name", [*PROBLEMS, *TASK_PROBLEMS])
def test_the_doctor_says_what_is_wrong(name, doctored):
    _, problem = {**PROBLEMS, **TASK_PROBLEMS}[name]
    assert problem in doctored[name]
    assert "of outside-hostile 6.6" in doctored[name]


def test_what_is_wrong_with_one_costs_no_other(doctored):
    assert doctored["leaky"] == " reference architecture 'leaky' of outside-bodies 1.2"
    assert len(doctored["lstm"].split()) == 1  # a kernel
    assert "registered 2 times" in doctored["twin"]


@pytest.mark.parametrize(
    ("architecture", "task", "message"),
    [
        ("gru", "mqar", "architecture 'gru' of outside-hostile 6.6: seqbench has this name"),
        ("no_package", "mqar", "outside_needy:Body cannot be imported: ModuleNotFoundError"),
        ("leakyy", "mqar", "no architecture 'leakyy'; did you mean 'leaky'? choices: a_task, "),
    ],
)
def test_a_name_that_cannot_be_used_is_one_line_and_exit_code_2(
    hostile, tmp_path, architecture, task, message
):
    words = ["run", "-a", architecture, "-t", task, "-l", 64, "--into", tmp_path / "runs"]
    done = bench(hostile, *words)
    assert done.returncode == 2, done.stdout + done.stderr
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_a_body_inside_another_may_not_be_broken_either(hostile, tmp_path):
    words = ["run", "-a", "hybrid", "--set", "architecture.pattern=[rnn, twin]", "-t", "mqar"]
    done = bench(hostile, *words, "-l", 64, "--into", tmp_path / "runs")
    assert done.returncode == 2, done.stdout + done.stderr
    assert "outside-left 1.0 and outside-right 1.0: registered 2 times" in done.stderr
    assert done.stderr.count("\n") == 1


def test_rows_say_which_package_and_version(fair, tmp_path):
    (tmp_path / "study.yaml").write_text(
        "title: Outside\n"
        "base: {width: 8, training: {steps: 3, batch_size: 4}}\n"
        "grid:\n"
        "  architecture: [rnn, leaky, dies, {name: hybrid, pattern: [rnn, leaky]},\n"
        "    {name: bidirectional, options: {inner: leaky, options: {decay: 0.5}}}]\n"
        "  task: [coin]\n"
        "  length: [8]\n"
    )
    done = bench(fair, "sweep", tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = [json.loads(file.read_text()) for file in (tmp_path / "rows").glob("*.json")]
    assert len(rows) == 5
    for row in rows:
        name, provenance = row["run"]["architecture"]["name"], row["provenance"]
        packages = {"task coin": "outside-coin 0.3"}
        versions = {"outside-coin": "0.3"}
        if name != "rnn":
            inside = "dies" if name == "dies" else "leaky"
            packages[f"architecture {inside}"] = "outside-bodies 1.2"
            versions["outside-bodies"] = "1.2"
        assert provenance["packages"] == packages
        found = provenance["versions"]
        assert {key: found[key] for key in found if key.startswith("outside")} == versions
        assert "torch" in found
        assert row["status"] == ("failed" if name == "dies" else "ok"), row["reason"]
    table = bench(fair, "table", tmp_path)
    assert table.returncode == 0
    assert "leaky" in table.stdout


def test_a_fair_body_keeps_the_laws_and_a_peeking_one_is_told_which_it_breaks(fair):
    done = bench(fair, "certify", "leaky", "peek")
    assert done.returncode == 1, done.stdout + done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    assert ["leaky", "kernel", "reference"] in lines
    verdicts = [line[:3] for line in lines if line[1] != "kernel"]
    kept = {law for name, law, verdict in verdicts if name == "leaky" and verdict == "holds"}
    broken = {law for name, law, verdict in verdicts if name == "peek" and verdict == "BROKEN"}
    assert kept == {law for name, law, _ in verdicts if name == "leaky"}
    assert len(kept) > 10
    assert {"past_ignores_future_values", "past_ignores_future_gradients"} <= broken
    assert "rows_do_not_mix" not in broken


@pytest.mark.slow
def test_certify_takes_all_that_are_registered_and_names_what_it_cannot(hostile):
    """And the page that is committed has those of this package alone."""
    done = bench(hostile, "certify")
    assert done.returncode == 1
    certified = {line.split()[0] for line in done.stdout.splitlines()}
    assert {"leaky", "lstm", "hf"} <= certified
    assert not certified & {"gru", "twin", "no_default"}
    for name in ("gru", "twin", "no_default", "no_package"):
        assert any(f"architecture {name!r} of" in line for line in done.stderr.splitlines())


@pytest.mark.parametrize("name", ["", "Leaky", "leaky body", "leaky-body", "läky", "leaky\x1b[31m"])
def test_odd_names_are_refused(name):
    point = EntryPoint(name=name, value="somewhere:Body", group="seqbench.architectures")
    problem = Outside("architectures", name, (point,)).problem({})
    assert problem is not None
    assert "a to z" in problem
    assert "\x1b" not in problem
