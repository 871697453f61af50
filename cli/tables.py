"""Tables for people: titles, short cells, intervals inside their value's cell."""

import os
import re
import sys
import unicodedata
from collections.abc import Collection, Mapping, Sequence
from itertools import zip_longest
from shutil import get_terminal_size
from textwrap import wrap
from typing import Any

from jsdelta_db.config.eps import format_eps

Row = dict[str, Any]
# Shorter words for people; machines get the keys.
TITLES = {
    "n_attempted": "attempted", "n_skipped": "skipped", "n_success": "successes", "n_bugs": "bugs",
    "n_images": "images", "n_outside": "beyond eps",
    "n_no_baseline": "without baseline", "n_no_relative": "without change",
    "bug_fraction": "bugs / successes", "bug_rate": "bugs / attempted",
    "n_features": "features", "matched_difference": "at equal confidence",
    "n_transferred_any": "to any", "transferred_any": "to any / successes",
    "n_transferred_all": "to all", "transferred_all": "to all / successes",
    "n_already": "there already", "already": "there already / successes",
}  # fmt: skip
FOLDED = {
    "interval",
    "covers",
    "n_images_bug",
    "n_images_non_bug",
    "too_few",
    "warnings",
    "n_models",
    "share_models",
}  # behind a mark
UIDS = ("attack", "evaluation")
SHORT_UID = 8  # characters: enough for --attack
MARKED = ("bug_fraction", "transfer_ratio", "difference")  # where too few samples are marked
DIGITS = "0123456789–-"  # with which the cells of a column begin that is aligned to the right
GAP = "  "  # between columns
# What TeX reads as a command; letters of any script are for LuaTeX and XeTeX, or inputenc.
TEX = str.maketrans(
    {
        "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
        "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", '"': r"{\char34}",
        "–": r"\textendash{}", "ε": r"$\varepsilon$", "ρ": r"$\rho$", "β": r"$\beta$", "Δ": r"$\Delta$",
        **{special: "\\" + special for special in "{}$&#_%"},
    }
)  # fmt: skip
# What Markdown reads as a mark: the end of a cell, code, a tag, a link, and stars that touch a word.
MARKDOWN = re.compile(r"[\\|`<]|\](?=[(\[])|\*(?=\S)|(?<=\S)\*|\b_|_\b|~(?=~)|&(?=[#\w]+;)")
HYPHEN = re.compile("-(?=-)")


def render_markdown(titles: Sequence[str], cells: Sequence[Sequence[str]], header: bool) -> str:
    """Return a Markdown table."""
    lines = [titles, ["---"] * len(titles)] if header else []
    return "".join(
        f"| {' | '.join(MARKDOWN.sub(_with_backslash, cell) for cell in line)} |\n"
        for line in [*lines, *cells]
    )


def _with_backslash(mark: re.Match[str]) -> str:
    return "\\" + mark[0]


def render_latex(titles: Sequence[str], cells: Sequence[Sequence[str]], header: bool) -> str:
    """Return a LaTeX table for booktabs; columns of numbers are aligned to the right."""
    columns = list(zip(titles, *cells, strict=True))
    sides = "".join("r" if _is_numeric(column[1:]) else "l" for column in columns)
    lines = [_tex_line(line) for line in cells]
    head = [_tex_line(titles), r"\midrule"] if header else []
    rules = (rf"\begin{{tabular}}{{{sides}}}", r"\toprule", *head, *lines, r"\bottomrule", r"\end{tabular}")
    return "\n".join(rules) + "\n"


def _tex_line(cells: Sequence[str]) -> str:
    text = " & ".join(map(_tex_cell, cells))
    # After the end of a line, a star or a bracket that begins the next one would be read as its argument.
    return (f"{{*}}{text[1:]}" if text.startswith("*") else text) + r" \\"


def _tex_cell(cell: str) -> str:
    text = cell.translate(TEX).replace("[", "{[}").replace("]", "{]}")
    # Two hyphens would be printed as one dash.
    return HYPHEN.sub("-{}", text)


def _is_numeric(cells: Sequence[str]) -> bool:
    return all(cell[:1] in DIGITS for cell in cells)


def render_table(titles: Sequence[str], cells: Sequence[Sequence[str]], header: bool) -> str:
    """Return a table with aligned columns, folded where the terminal is narrower; in a pipe it never is.

    Rich takes over a millisecond a row for it, seconds for a table of thousands.
    """
    lines = [titles, *cells] if header else list(cells)
    columns = list(zip(titles, *cells, strict=True))
    widths = [max(map(_width, column if header else column[1:]), default=0) for column in columns]
    if sys.stdout.isatty():
        widths = _fit(widths, get_terminal_size().columns)
    numeric = [_is_numeric(column[1:]) for column in columns]
    text = []
    for number, line in enumerate(lines):
        is_bold = header and number == 0 and sys.stdout.isatty() and "NO_COLOR" not in os.environ
        folded = [_fold(cell, width) for cell, width in zip(line, widths, strict=True)]
        for parts in zip_longest(*folded, fillvalue=""):
            row = GAP.join(map(_pad, parts, widths, numeric)).rstrip()
            text.append(f"\033[1m{row}\033[0m\n" if is_bold else f"{row}\n")
    return "".join(text)


def _fit(widths: Sequence[int], room: int) -> list[int]:
    """Return the widths of columns, the widest narrowed until they fit into a terminal."""
    fitted = list(widths)
    while sum(fitted) + len(GAP) * (len(fitted) - 1) > room and max(fitted) > 1:
        fitted[fitted.index(max(fitted))] -= 1
    return fitted


def _fold(cell: str, width: int) -> list[str]:
    """Return the lines of a cell, broken at words where it is too wide."""
    if len(cell) <= width or not width:
        return [cell]
    return wrap(cell, width) or [""]


def _pad(cell: str, width: int, numeric: bool) -> str:
    space = " " * (width - _width(cell))
    return space + cell if numeric else cell + space


def _width(cell: str) -> int:
    """Return how many columns of a terminal a cell takes: letters of some scripts take two, accents none."""
    if cell.isascii():
        return len(cell)
    return sum(
        0 if unicodedata.combining(letter) else 1 + (unicodedata.east_asian_width(letter) in "WF")
        for letter in cell
    )


def list_columns(keys: Sequence[str]) -> list[str]:
    """Return the keys without those that are shown inside another cell."""
    folded = {f"{key}_{end}" for key in keys for end in ("low", "high")} | FOLDED
    return [key for key in keys if key not in folded]


def find_shared(cells: Sequence[Mapping[str, str]], facts: Collection[str]) -> list[str]:
    """Return the facts that every row shows alike: they stand above the table, once."""
    if not cells:
        return []
    return [key for key in cells[0] if key in facts and len({line[key] for line in cells}) == 1]


def title_of(key: str) -> str:
    """Return a column's title."""
    return TITLES.get(key, key.replace("_", " "))


def format_cell(row: Row, key: str, norm: str) -> str:
    """Return a cell: ε in the unit of its norm, values with their intervals, short uids, large counts."""
    value = row[key]
    if value is not None and key == "eps":
        return format_eps(value, row.get("norm", norm))
    if value is not None and f"{key}_low" in row:
        low, high = row[f"{key}_low"], row[f"{key}_high"]
        bounds = "–" if low is None else f"{low:.3f}, " + ("–" if high is None else f"{high:.3f}")
        mark = " *" if row.get("too_few") and key in MARKED else ""
        return f"{value:.3f} [{bounds}]{mark}"
    if value is not None and key in UIDS:
        return str(value)[:SHORT_UID]
    return (
        f"{value:,}"
        if isinstance(value, int) and key.startswith(("n_", "rows", "bytes"))
        else format_value(value)
    )


def format_value(value: object) -> str:
    """Return a value as text: a dash for nothing, four digits of a float."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
