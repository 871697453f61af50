"""Tables for people: titles, short cells, intervals inside their value's cell."""

import io
import os
import sys
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from jsdelta_db.config.eps import format_eps

Row = dict[str, Any]
# Shorter words for people; machines get the keys.
TITLES = {
    "n_attempted": "attempted", "n_skipped": "skipped", "n_success": "successes", "n_bugs": "bugs",
    "n_no_baseline": "without baseline", "bug_fraction": "bugs / successes", "bug_rate": "bugs / attempted",
    "n_features": "features", "matched_difference": "at equal confidence",
    "n_transferred_any": "to any", "transferred_any": "to any / successes",
    "n_transferred_all": "to all", "transferred_all": "to all / successes",
    "n_already": "there already", "already": "there already / successes",
}  # fmt: skip
UIDS = ("attack", "evaluation")
SHORT_UID = 8  # characters: enough for --attack
MARKED = ("bug_fraction", "transfer_ratio", "difference")  # where too few samples are marked
UNLIMITED = 10_000  # columns: a table in a pipe is never cut


def render_markdown(titles: Sequence[str], cells: Sequence[Sequence[str]], header: bool) -> str:
    """Return a Markdown table."""
    lines = [titles, ["---"] * len(titles)] if header else []
    return "".join(
        f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |\n" for line in [*lines, *cells]
    )


def render_table(titles: Sequence[str], cells: Sequence[Sequence[str]], header: bool) -> str:
    """Return a table with aligned columns, as wide as the terminal, or as it needs in a pipe."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, header_style="bold", show_header=header, pad_edge=False, padding=(0, 2, 0, 0))
    for position, title in enumerate(titles):
        numeric = all(line[position][:1] in "0123456789–-" for line in cells)
        table.add_column(title, justify="right" if numeric else "left", overflow="fold")
    for line in cells:
        table.add_row(*map(escape, line))
    terminal = sys.stdout.isatty() and "NO_COLOR" not in os.environ
    console = Console(
        file=io.StringIO(), width=None if sys.stdout.isatty() else UNLIMITED, force_terminal=terminal or None
    )
    console.print(table)
    text: str = console.file.getvalue()  # type: ignore[attr-defined]
    return "".join(line.rstrip() + "\n" for line in text.splitlines())


def list_columns(keys: Sequence[str]) -> list[str]:
    """Return the keys without those that are shown inside another cell."""
    folded = {f"{key}_{end}" for key in keys for end in ("low", "high")} | {"interval", "too_few"}
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
    if value is not None and row.get(f"{key}_low") is not None:
        mark = " *" if row.get("too_few") and key in MARKED else ""
        return f"{value:.3f} [{row[f'{key}_low']:.3f}, {row[f'{key}_high']:.3f}]{mark}"
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
