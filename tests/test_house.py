"""The house rules of the tree: directions of imports, registries, sizes, pins."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tests.shared_files import SHARED_BY_TASKS

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("architectures", "tasks", "bench")
FILES = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
MAX_LINES = 400


def imported(path: Path, *, anywhere: bool = True) -> set[str]:
    """Modules that a file imports: anywhere in it, or at its top only."""
    tree = ast.parse(path.read_text())
    nodes = ast.walk(tree) if anywhere else iter(tree.body)
    found: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found


def below(module: str, packages: tuple[str, ...]) -> bool:
    return any(module == package or module.startswith(f"{package}.") for package in packages)


@pytest.mark.parametrize(
    ("folder", "forbidden"),
    [
        ("architectures", ("bench", "tasks", "lightning")),
        ("tasks", ("bench", "architectures", "lightning")),
        ("bench/records", ("torch", "lightning", "bench.report", "bench.launch", "bench.training")),
        ("bench/report", ("torch", "lightning", "bench.launch", "bench.training", "architectures")),
        (
            "bench/trackers",
            ("torch", "lightning", "bench.launch", "bench.training", "bench.report"),
        ),
        ("bench/training", ("bench.launch", "bench.report", "bench.measure")),
        ("bench/measure", ("bench.launch", "bench.report")),
        ("bench/certify", ("bench.launch", "bench.report", "bench.records", "tasks")),
    ],
)
def test_imports_point_one_way(folder, forbidden):
    for path in sorted((ROOT / folder).rglob("*.py")):
        wrong = {module for module in imported(path) if below(module, forbidden)}
        assert not wrong, f"{path.relative_to(ROOT)} imports {wrong}"


def test_the_command_line_is_on_top():
    for path in FILES:
        inside = path.is_relative_to(ROOT / "bench" / "commands") or path.name == "cli.py"
        wrong = {m for m in imported(path) if below(m, ("bench.commands", "bench.cli", "typer"))}
        assert inside or path.name == "__main__.py" or not wrong, f"{path} imports {wrong}"


@pytest.mark.parametrize(
    "module", ["bench.cli", "bench.spec", "bench.study", "bench.listing", "bench.launch.sweep"]
)
def test_what_a_login_node_needs_imports_no_torch(module):
    code = f"import sys, {module}; assert 'torch' not in sys.modules, {module!r}"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_no_accelerator_library_is_imported_at_the_top_of_a_file():
    """One missing CUDA package must not take the whole catalogue with it."""
    optional = ("mamba_ssm", "causal_conv1d", "triton", "flash_attn", "pynvml", "sklearn")
    optional += ("wandb", "tensorboardX")
    jit = "architectures.kernels.cuda.jit"  # Triton's own language, imported on a device alone
    for path in FILES:
        if path.is_relative_to(ROOT / jit.replace(".", "/")):
            continue
        wrong = {m for m in imported(path, anywhere=False) if below(m, (*optional, jit))}
        assert not wrong, f"{path.relative_to(ROOT)} imports {wrong} at its top"


@pytest.mark.parametrize("folder", ["architectures", "tasks"])
def test_every_file_is_in_the_registry(folder):
    registry = ast.parse((ROOT / folder / "__init__.py").read_text())
    named = {node.module for node in registry.body if isinstance(node, ast.ImportFrom)}
    shared = {"architectures.body", *(f"tasks.{name}" for name in SHARED_BY_TASKS)}
    files = {f"{folder}.{p.stem}" for p in (ROOT / folder).glob("*.py") if p.stem != "__init__"}
    assert files - shared <= named


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_is_one_thing(path):
    text = path.read_text()
    assert len(text.splitlines()) <= MAX_LINES
    if text.strip():
        assert ast.get_docstring(ast.parse(text)), "a file begins by saying what it is"


def test_there_is_no_drawer_for_the_rest():
    assert not [p for p in FILES if p.stem in ("utils", "helpers", "common", "misc")]


def test_lightning_can_never_resolve_to_the_withdrawn_releases():
    text = (ROOT / "pyproject.toml").read_text()
    assert "!=2.6.2,!=2.6.3" in text
    pins = dict(
        line.split("==") for line in (ROOT / "constraints.txt").read_text().split() if "==" in line
    )
    assert pins["torch"] == "2.13.0"
    assert pins["lightning"] not in ("2.6.2", "2.6.3")


def test_every_dependency_is_pinned():
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pins = {
        line.partition("==")[0].lower().replace("_", "-")
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if "==" in line
    }
    wanted = [*project["dependencies"]]
    for extra in ("data", "dev", "wandb", "tensorboard"):
        wanted += project["optional-dependencies"][extra]
    names = {spec.split(">")[0].split("!")[0].split("<")[0].strip().lower() for spec in wanted}
    assert names <= pins
