"""Texts and tables as LaTeX, for the packages booktabs and graphicx and any engine."""

from __future__ import annotations

import unicodedata
from collections.abc import Collection, Iterable, Sequence

HEADER = (
    r"% For \input. Preamble: \usepackage{booktabs,graphicx}, and for names beyond ASCII a font."
)
SIGNS = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "`": r"\textasciigrave{}",
    "[": "{[}",  # or it would be the optional argument of the line break before it
    "]": "{]}",
    "†": r"\dag{}",
    "–": "--",
    "±": r"$\pm$",
    "≥": r"$\geq$",
    "×": r"$\times$",
    "µ": r"$\mu$",
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
}
LEVELS = {1: "section", 2: "subsection", 3: "subsubsection"}


def escape(text: str) -> str:
    """Text that stays text."""
    plain = (" " if unicodedata.category(sign) in ("Cc", "Zl", "Zp") else sign for sign in text)
    return "".join(SIGNS.get(sign, sign) for sign in plain).strip()


def heading(level: int, text: str) -> str:
    r"""`\section*{...}`."""
    return f"\\{LEVELS[level]}*{{{escape(text)}}}\n"


def items(texts: Iterable[str]) -> str:
    """A list of texts that are LaTeX already."""
    lines = "".join(rf"\item {text}" + "\n" for text in texts)
    return f"\\begin{{itemize}}\n{lines}\\end{{itemize}}\n" if lines else ""


def table(headings: Sequence[str], lines: Sequence[Sequence[str]], right: Collection[int]) -> str:
    """A table as wide as the text at the most; its cells are LaTeX already."""
    columns = "".join("r" if i in right else "l" for i in range(len(headings)))
    body = "".join(f"{' & '.join(line)} \\\\\n" for line in lines)
    return (
        "\\begin{center}\n\\resizebox{\\ifdim\\width>\\linewidth\\linewidth\\else\\width\\fi}{!}{%\n"
        f"\\begin{{tabular}}{{{columns}}}\n\\toprule\n{' & '.join(headings)} \\\\\n\\midrule\n"
        f"{body}\\bottomrule\n\\end{{tabular}}}}\n\\end{{center}}\n"
    )
