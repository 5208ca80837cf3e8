"""A document of headings, sentences, lists and tables, and its Markdown, HTML and LaTeX.

Texts are plain: each writer escapes what would mean something in its language.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from bench.records import markdown
from bench.report import latex


@dataclass(frozen=True)
class Cell:
    """A text of a table that is more than a text."""

    text: str
    emphasis: bool = False
    link: str = ""  # where it leads, relative to the document
    hint: str = ""  # what HTML shows beside it


@dataclass(frozen=True)
class Heading:
    """A heading; level 1 is the title."""

    level: int
    text: str


@dataclass(frozen=True)
class Paragraph:
    """A sentence; `term` stands before it, in bold."""

    text: str
    term: str = ""


@dataclass(frozen=True)
class Items:
    """A list."""

    items: Sequence[Paragraph]


@dataclass(frozen=True)
class Table:
    """A table; the columns numbered in `right` are flushed right, empty ones are left out."""

    headings: Sequence[str]
    lines: Sequence[Sequence[str | Cell]]
    right: frozenset[int] = field(default_factory=frozenset)

    def kept(self) -> list[int]:
        """The columns that hold something."""
        return [i for i in range(len(self.headings)) if any(_text(line[i]) for line in self.lines)]


Part: TypeAlias = Heading | Paragraph | Items | Table


def as_markdown(parts: Iterable[Part]) -> str:
    """The document as Markdown that can be read as it is."""
    return "\n".join(map(_markdown, parts))


def _markdown(part: Part) -> str:
    match part:
        case Heading():
            return f"{'#' * part.level} {markdown.escape(part.text)}\n"
        case Paragraph():
            return f"{_sentence(part)}\n"
        case Items():
            return "".join(f"- {_sentence(item)}\n" for item in part.items)
    lines = [[_markdown_cell(cell) for cell in line] for line in part.lines]
    return markdown.table(part.headings, lines, part.right)


def _sentence(part: Paragraph) -> str:
    term = f"**{markdown.escape(part.term)}:** " if part.term else ""
    return f"{term}{markdown.escape(part.text)}"


def _markdown_cell(cell: str | Cell) -> str:
    text = markdown.escape(_text(cell))
    if isinstance(cell, Cell) and text:
        text = f"*{text}*" if cell.emphasis else text
        text = f"[{text}]({cell.link})" if cell.link else text
    return text


STYLE = """\
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; margin: 1rem auto; padding: 0 1rem; }
.wide { overflow-x: auto; margin-bottom: 1rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .2rem .6rem; text-align: left; border-bottom: 1px solid #8886; }
td { white-space: nowrap; }
.right { text-align: right; }
"""


def as_html(parts: Sequence[Part]) -> str:
    """The document as one HTML file that loads nothing."""
    title = next((part.text for part in parts if isinstance(part, Heading)), "")
    body = "".join(map(_html, parts))
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(title)}</title>\n<style>\n{STYLE}</style>\n</head>\n"
        f"<body>\n{body}</body>\n</html>\n"
    )


def _html(part: Part) -> str:
    match part:
        case Heading():
            return f"<h{part.level}>{html.escape(part.text)}</h{part.level}>\n"
        case Paragraph():
            return f"<p>{_html_sentence(part)}</p>\n"
        case Items():
            items = "".join(f"<li>{_html_sentence(item)}</li>\n" for item in part.items)
            return f"<ul>\n{items}</ul>\n"
    kept = part.kept()
    classes = {i: ' class="right"' if i in part.right else "" for i in kept}
    headings = "".join(
        f'<th scope="col"{classes[i]}>{html.escape(part.headings[i])}</th>' for i in kept
    )
    lines = "".join(
        f"<tr>{''.join(f'<td{classes[i]}>{_html_cell(line[i])}</td>' for i in kept)}</tr>\n"
        for line in part.lines
    )
    return (
        f'<div class="wide"><table>\n<thead><tr>{headings}</tr></thead>\n'
        f"<tbody>\n{lines}</tbody>\n</table></div>\n"
    )


def _html_sentence(part: Paragraph) -> str:
    term = f"<strong>{html.escape(part.term)}:</strong> " if part.term else ""
    return f"{term}{html.escape(part.text)}"


def _html_cell(cell: str | Cell) -> str:
    text = html.escape(_text(cell))
    if isinstance(cell, Cell) and text:
        hint = f' title="{html.escape(cell.hint)}"' if cell.hint else ""
        text = f"<em>{text}</em>" if cell.emphasis else text
        if cell.link:
            text = f'<a href="{html.escape(cell.link)}"{hint}>{text}</a>'
        elif hint:
            text = f"<span{hint}>{text}</span>"
    return text


def as_latex(parts: Iterable[Part]) -> str:
    """The document as a part of another one, which takes it in."""
    return f"{latex.HEADER}\n" + "\n".join(map(_latex, parts))


def _latex(part: Part) -> str:
    match part:
        case Heading():
            return latex.heading(part.level, part.text)
        case Paragraph():
            return f"{_latex_sentence(part)}\n"
        case Items():
            return latex.items(map(_latex_sentence, part.items))
    kept = part.kept()
    lines = [[_latex_cell(line[i]) for i in kept] for line in part.lines]
    right = {place for place, i in enumerate(kept) if i in part.right}
    return latex.table([latex.escape(part.headings[i]) for i in kept], lines, right)


def _latex_sentence(part: Paragraph) -> str:
    term = rf"\textbf{{{latex.escape(part.term)}:}} " if part.term else ""
    return f"{term}{latex.escape(part.text)}"


def _latex_cell(cell: str | Cell) -> str:
    text = latex.escape(_text(cell))
    if isinstance(cell, Cell) and cell.emphasis and text:
        return rf"\emph{{{text}}}"
    return text


def _text(cell: str | Cell) -> str:
    return cell if isinstance(cell, str) else cell.text
