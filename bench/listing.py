"""The registered names and what they stand for, read from the sources without importing them.

Importing them would import torch, and `bench list` has to answer at once.
"""

from __future__ import annotations

import ast
import importlib.util
from pathlib import Path
from typing import Literal, TypeAlias, cast

Catalogue: TypeAlias = Literal["architectures", "tasks"]


def descriptions(catalogue: Catalogue) -> dict[str, str]:
    """Every registered name with the first line of its class's docstring."""
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
