"""YAML as plain data: no tags or dates, `1e-3` a number, `on` a word, a key twice an error."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

import yaml

from bench.errors import UserError

MAX_NODES = 1_000_000
"""More than any study has; a document of aliases of aliases reaches it at once."""


class _Loader(yaml.SafeLoader):
    """Safe YAML with the scalars of JSON, and every key once."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                problem = "a key has to be a word"
            elif key.value in seen:
                problem = f"key {key.value!r} stands twice"
            else:
                seen.add(key.value)
                continue
            raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
        return dict(super().construct_mapping(node, deep=deep))


for tag, pattern, first in (
    ("bool", r"true|false", "tf"),
    ("null", r"null|~|", "n~\0"),
    ("int", r"[-+]?(?:0|[1-9][0-9_]*)", "-+0123456789"),
    ("float", r"[-+]?[0-9][0-9_]*(?:\.[0-9]*)?(?:[eE][-+]?[0-9]+)?", "-+0123456789"),
    ("float", r"[-+]?\.(?:[0-9]+(?:[eE][-+]?[0-9]+)?|inf)|\.nan", "-+."),
    ("merge", r"<<", "<"),
):
    _Loader.add_implicit_resolver(
        f"tag:yaml.org,2002:{tag}",
        re.compile(f"^(?:{pattern})$"),
        ["" if sign == "\0" else sign for sign in first],
    )


def parse(text: str, where: str) -> Any:
    """The data of a YAML document.

    Raises:
        UserError: it is no YAML, or asks for more than plain data.
    """
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        if _size(node, {}) > MAX_NODES:
            raise UserError(f"{where} is not YAML: it expands to more than a million parts")
        return loader.construct_document(node)
    except UserError:
        raise
    except (yaml.YAMLError, ValueError) as error:
        raise UserError(f"{where} is not YAML: {' '.join(str(error).split())}") from None
    except RecursionError:
        raise UserError(f"{where} is not YAML: it is nested too deeply") from None
    finally:
        loader.dispose()


def line_of(text: str, path: Sequence[str | int]) -> int:
    """The line, from 1, of what is at a path of keys and indices, or of the last part there is.

    The text is one that `parse` takes.
    """
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
    finally:
        loader.dispose()
    line = 0
    for part in path:
        if isinstance(node, yaml.MappingNode):
            found = [pair for pair in node.value if pair[0].value == str(part)]
            if not found:
                break
            key, node = found[0]
            line = key.start_mark.line
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int):
            node = node.value[part]
            line = node.start_mark.line
        else:
            break
    return int(line) + 1


def _size(node: yaml.Node, known: dict[yaml.Node, float]) -> float:
    """How many parts a node has when every alias is written out; inf if it holds itself."""
    if node not in known:
        known[node] = math.inf  # until its parts are counted
        parts: list[yaml.Node] = []
        if isinstance(node, yaml.SequenceNode):
            parts = node.value
        elif isinstance(node, yaml.MappingNode):
            parts = [part for pair in node.value for part in pair]
        known[node] = 1 + sum(_size(part, known) for part in parts)
    return known[node]
