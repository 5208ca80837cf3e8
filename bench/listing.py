"""The registered names and what they stand for, read from the sources without importing them.

Importing them would import torch, and `bench list` has to answer at once.
"""

from __future__ import annotations

import ast
import importlib.util
from importlib.machinery import PathFinder
from pathlib import Path
from typing import cast

from bench.plugins import Catalogue, Outside, outside


def descriptions(catalogue: Catalogue) -> dict[str, str]:
    """Every registered name with the first line of its class's docstring.

    Names of other packages come last, with their package or with what keeps them from being used.
    """
    found = built_in(catalogue)
    others = {
        name: entry.problem(found) or _description(entry)
        for name, entry in outside(catalogue).items()
    }
    return {**found, **{ascii(name)[1:-1]: text for name, text in others.items()}}


def built_in(catalogue: Catalogue) -> dict[str, str]:
    """The names of this package alone."""
    folder = _folder(catalogue)
    registry = ast.parse((folder / "__init__.py").read_text(encoding="utf-8"))
    modules = {
        alias.asname or alias.name: node.module
        for node in registry.body
        if isinstance(node, ast.ImportFrom) and node.module is not None
        for alias in node.names
    }
    found: dict[str, str] = {}
    for name, class_name in _literal_entries(registry, catalogue.upper()):
        file = folder.parent.joinpath(*modules[class_name].split(".")).with_suffix(".py")
        found[name] = _first_line(file, class_name)
    return found


def _description(entry: Outside) -> str:
    """`First line of the docstring. (my-package 1.0)`, or the package alone."""
    module, _, class_name = entry.points[0].value.partition(":")
    try:
        file = _file(module.strip())
        line = _first_line(file, class_name.strip()) if file else ""
    except (OSError, SyntaxError, ValueError, RuntimeError):  # what its use will tell
        line = ""
    return f"{line} ({entry.source})" if line else f"from {entry.source}"


def _file(module: str) -> Path | None:
    """The source of a module, which is not imported, nor are the packages that it is in."""
    name, folders, file = "", None, None
    for part in module.split("."):
        name = f"{name}.{part}" if name else part
        spec = PathFinder.find_spec(name, folders)
        if spec is None:
            return None
        folders, file = spec.submodule_search_locations, spec.origin
    return Path(file) if file and file.endswith(".py") else None


def _folder(package: str) -> Path:
    spec = importlib.util.find_spec(package)
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent


def _literal_entries(module: ast.Module, variable: str) -> list[tuple[str, str]]:
    for node in module.body:
        if (
            isinstance(node, ast.AnnAssign)
            and isinstance(node.target, ast.Name)
            and node.target.id == variable
            and isinstance(node.value, ast.Dict)
        ):
            pairs = zip(node.value.keys, node.value.values, strict=True)
            return [
                (ast.literal_eval(cast("ast.expr", k)), cast("ast.Name", v).id) for k, v in pairs
            ]
    raise RuntimeError(f"{variable} is not a literal dict")


def _first_line(file: Path, class_name: str) -> str:
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef) and node.name == class_name:
            return (ast.get_docstring(node) or "").partition("\n")[0]
    raise RuntimeError(f"no class {class_name} in {file}")
