"""What the README tells people to do works."""

import os
import re
import subprocess
import sys
import tomllib
import types
from pathlib import Path

import pytest

from bench.certify.laws import LAWS, certify
from bench.spec import parse_run
from bench.study import load
from bench.training.execute import execute
from tests.packages import install

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()


def block(language: str) -> str:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)[0]


def test_the_architecture_of_the_readme_keeps_the_laws_and_trains(monkeypatch):
    module = types.ModuleType("leaky")
    exec(compile(block("python"), "README.md", "exec"), module.__dict__)
    findings = certify("leaky", lambda: module.Leaky(7))
    assert findings
    assert [f for f in findings if not f.holds] == []
    monkeypatch.setitem(__import__("architectures").ARCHITECTURES, "leaky", module.Leaky)
    run = parse_run(
        {
            "architecture": {"name": "leaky", "decay": 0.5},
            "task": "parity",
            "length": 8,
            "params": 500,
            "training": {"steps": 3, "batch_size": 4},
        }
    )
    assert execute(run, "readme", {}).status == "ok"


def test_the_architecture_of_ones_own_package_is_certified(tmp_path):
    groups = tomllib.loads(block("toml"))["project"]["entry-points"]
    ((name, value),) = groups["seqbench.architectures"].items()
    module = value.partition(":")[0].replace(".", "/") + ".py"
    assert f"src/{module}" in block("toml")
    install(tmp_path, "my-package", {module: block("python")}, groups)
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [sys.executable, "-m", "bench", "certify", name],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("holds") == len(LAWS)


def test_the_study_of_the_readme_expands(tmp_path):
    (tmp_path / "study.yaml").write_text(block("yaml"))
    runs = load(tmp_path).runs
    assert sum(run.purpose == "train" for run in runs) == 3 * 3 * 2 * 3
    assert sum(run.purpose == "measure" for run in runs) == 3 * 3


def test_the_commands_of_the_readme_exist():
    from typer.main import get_command

    from bench.cli import app

    named = set(re.findall(r"^bench (\w+)", README, re.MULTILINE))
    assert named
    assert named <= set(get_command(app).commands)


@pytest.mark.parametrize("path", re.findall(r"\]\(([\w/.]+)\)", README))
def test_the_links_of_the_readme_lead_somewhere(path):
    assert (ROOT / path).exists()
