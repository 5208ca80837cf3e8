"""Functions of Python's standard library: their docstrings and their bodies, apart.

Of each function of tasks/data/standard_library.py with a docstring. What would give the pair away
is taken out: the body comes without decorators and signature, and the function's name, and that of
the class or function around it, is replaced by `_` in both. A docstring or a body that occurs
twice is kept once, so that no two functions share one, in one split or in two.
"""

from __future__ import annotations

import ast
import hashlib
import inspect
import re
import sysconfig
import textwrap
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tasks.data.documents import Documents
from tasks.data.standard_library import source_files, split_of
from tasks.task import SPLITS, MissingPackageError, Split

SHORTEST = 32
"""Bytes of a docstring and of a body; shorter ones say nothing."""
FEWEST = 2
"""Functions of a split, so that there are pairs that do not belong together."""


@dataclass(frozen=True)
class Functions:
    """Docstrings and bodies of the same functions, in the same order."""

    docstrings: Documents
    bodies: Documents


@cache
def read(task: str) -> dict[Split, Functions]:
    """The functions of each split; a whole file is in one split.

    The order is by hash, so that neighbours are of different files.

    Raises:
        MissingPackageError: this Python comes without its sources.
    """
    found: dict[Split, list[tuple[bytes, str, str]]] = {split: [] for split in SPLITS}
    seen: set[str] = set()
    root = Path(sysconfig.get_path("stdlib"))
    for path in source_files():
        split = split_of(hashlib.sha256(path.encode()).digest())
        text = (root / path).read_text(encoding="utf-8", errors="replace")
        for name, docstring, body in functions(text):
            short = min(len(docstring), len(body)) < SHORTEST
            if short or docstring in seen or body in seen:
                continue
            seen |= {docstring, body}
            order = hashlib.sha256(f"{path} {name} {body}".encode()).digest()
            found[split].append((order, docstring, body))
    if any(len(of_split) < FEWEST for of_split in found.values()):
        raise MissingPackageError(
            f"task {task!r} needs the sources of the standard library, and {root} has too few: "
            "install Python with its .py files"
        )
    return {
        split: Functions(
            Documents.of(docstring.encode() for _, docstring, _ in sorted(of_split)),
            Documents.of(body.encode() for *_, body in sorted(of_split)),
        )
        for split, of_split in found.items()
    }


@cache
def sha256(task: str) -> str:
    """A hash of the functions of all splits."""
    digest = hashlib.sha256()
    for of_split in read(task).values():
        for documents in (of_split.docstrings, of_split.bodies):
            digest.update(documents.symbols.numpy().tobytes() + documents.ends.numpy().tobytes())
    return digest.hexdigest()


def functions(source: str) -> Iterator[tuple[str, str, str]]:
    """The name, docstring and body of each documented function of a file, in order."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the library's own, such as of escapes
        try:
            tree = ast.parse(source)
        except (SyntaxError, ValueError):  # lib2to3 holds files of Python 2
            return
    lines = source.splitlines(keepends=True)
    yield from _below(tree, lines, ())


def _below(
    node: ast.AST, lines: list[str], around: tuple[str, ...]
) -> Iterator[tuple[str, str, str]]:
    for child in ast.iter_child_nodes(node):
        inside = around
        if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            inside = (*around, child.name)
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef) and len(child.body) > 1:
            docstring = ast.get_docstring(child, clean=False)
            if docstring is not None:
                first, last = child.body[1].lineno - 1, child.end_lineno
                body = textwrap.dedent("".join(lines[first:last]))
                names = re.compile(rf"(?<!\w)(?:{'|'.join(map(re.escape, inside))})(?!\w)")
                cleaned = names.sub("_", inspect.cleandoc(docstring))
                yield child.name, cleaned, names.sub("_", body).strip()
        yield from _below(child, lines, inside)
