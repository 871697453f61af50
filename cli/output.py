"""Data on stdout in the format asked for; progress, notes and errors on stderr."""

import csv
import io
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Any

import typer

from jsdelta_db.config import format_eps
from jsdelta_db.errors import UsageError
from jsdelta_db.progress import Task

Row = dict[str, Any]
# Shorter words for people; machines get the keys.
TITLES = {
    "n_attempted": "attempted", "n_skipped": "skipped", "n_success": "successes", "n_bugs": "bugs",
    "n_no_baseline": "without baseline", "bug_fraction": "bugs / successes", "bug_rate": "bugs / attempted",
}  # fmt: skip
UNLIMITED = 10_000  # columns: a table in a pipe is never cut


class Format(StrEnum):
    """How rows are written."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"
    JSONL = "jsonl"
    MARKDOWN = "markdown"


class TerminalProgress:
    """Bars and news on stderr; bars only where stderr is a terminal, a line per finished task elsewhere."""

    def __init__(self) -> None:
        from rich.console import Console

        self._console = Console(stderr=True)

    def say(self, message: str) -> None:
        """Print one line of news."""
        self._console.print(message, style="yellow", markup=False, highlight=False, soft_wrap=True)

    @contextmanager
    def task(self, label: str, total: int) -> Iterator[Task]:
        """Show a bar with the time that is left and the latest note."""
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        last = ""
        columns = (
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
            TextColumn("{task.fields[note]}", style="dim"),
        )  # fmt: skip
        terminal = self._console.is_terminal
        with Progress(*columns, console=self._console, disable=not terminal) as progress:
            bar = progress.add_task(label, total=total, note="")

            def advance(done: int = 1, note: str = "") -> None:
                nonlocal last
                last = note or last
                progress.update(bar, advance=done, note=last)

            yield advance
        if not terminal:
            note(f"{label}: done{', ' + last if last else ''}")


def note(message: str) -> None:
    """Print a line beside the data, on stderr."""
    typer.echo(message, err=True)


def note_pooled(pooled: Mapping[str, Sequence[Any]]) -> None:
    """Name, on stderr, what differs among the attacks behind each row or panel."""
    for key, values in pooled.items():
        shown = map(format_eps, values) if key == "eps" else map(str, values)
        note(f"pooled over {key}: {', '.join(shown)}")


def write_rows(
    rows: Sequence[Row], keys: Sequence[str], form: Format, output: Path | None = None, *, header: bool = True
) -> None:
    """Write rows with these keys, to a file if ``output`` is given.

    Raises:
        UsageError: the file's folder does not exist or can not be written.
    """
    text = render_rows(rows, keys, form, header=header)
    if output is None:
        sys.stdout.write(text)
        return
    try:
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(
            f"--output {str(output)!r} can not be written: {error.strerror}; choose another file"
        ) from error


def render_rows(rows: Sequence[Row], keys: Sequence[str], form: Format, *, header: bool = True) -> str:
    """Return rows as text: full precision for machines, short cells for people."""
    if form is Format.JSON:
        return (
            json.dumps([{key: row[key] for key in keys} for row in rows], indent=2, ensure_ascii=False) + "\n"
        )
    if form is Format.JSONL:
        return "".join(json.dumps({key: row[key] for key in keys}, ensure_ascii=False) + "\n" for row in rows)
    if form is Format.CSV:
        buffer = io.StringIO()
        writer = csv.writer(buffer, lineterminator="\n")
        writer.writerows([keys] if header else [])
        writer.writerows([row[key] for key in keys] for row in rows)
        return buffer.getvalue()
    columns = _columns_for_people(keys)
    if form is Format.MARKDOWN:
        return _markdown(
            [_title(key) for key in columns], [[_cell(row, key) for key in columns] for row in rows], header
        )
    shared = _shared_by_all(rows, columns) if header else []
    columns = [key for key in columns if key not in shared]
    heading = ", ".join(f"{_title(key)} {_cell(rows[0], key)}" for key in shared if rows[0][key] is not None)
    table = _table(
        [_title(key) for key in columns], [[_cell(row, key) for key in columns] for row in rows], header
    )
    return f"{heading}\n{table}" if heading else table


def _columns_for_people(keys: Sequence[str]) -> list[str]:
    """Leave out the keys that are shown inside another cell."""
    folded = {f"{key}_{end}" for key in keys for end in ("low", "high")} | {"interval", "too_few"}
    return [key for key in keys if key not in folded]


def _shared_by_all(rows: Sequence[Row], columns: Sequence[str]) -> list[str]:
    """Return the columns of a bug table that say the same in every row: they go above it, once."""
    if "beta" not in columns or not rows:
        return []
    facts = {*columns[: columns.index("beta")], "n_attempted", "n_skipped", "n_no_baseline"} - {"eps"}
    return [key for key in columns if key in facts and len({_cell(row, key) for row in rows}) == 1]


def _title(key: str) -> str:
    return TITLES.get(key, key.replace("_", " "))


def _cell(row: Row, key: str) -> str:
    value = row[key]
    if value is None:
        return "–"
    if key == "eps":
        return format_eps(value, row.get("norm", "linf"))
    if f"{key}_low" in row:
        mark = " *" if row.get("too_few") and key == "bug_fraction" else ""
        return f"{value:.3f} [{row[f'{key}_low']:.3f}, {row[f'{key}_high']:.3f}]{mark}"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) and key.startswith(("n_", "rows")) else str(value)


def _markdown(titles: Sequence[str], cells: Sequence[Sequence[str]], header: bool) -> str:
    lines = [titles, ["---"] * len(titles)] if header else []
    return "".join(
        f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |\n" for line in [*lines, *cells]
    )


def _table(titles: Sequence[str], cells: Sequence[Sequence[str]], header: bool) -> str:
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


def write_bugs(
    table_keys: Sequence[str], rows: Sequence[Row], form: Format, output: Path | None, header: bool
) -> None:
    """Write the rows of ``query bugs`` and, for people, what the marks mean."""
    write_rows(rows, [*table_keys, *BUG_KEYS], form, output, header=header)
    if form in (Format.TABLE, Format.MARKDOWN) and rows:
        kinds = ", ".join(sorted({row["interval"] for row in rows if row["interval"]}))
        note(
            f"95 % intervals: {kinds or 'none'}."
            + (" * fewer than 30 successes." if any(r["too_few"] for r in rows) else "")
        )


BUG_KEYS = (
    "beta", "n_attempted", "n_skipped", "n_success", "n_no_baseline", "n_bugs",
    "bug_fraction", "bug_fraction_low", "bug_fraction_high", "bug_rate", "bug_rate_low", "bug_rate_high",
    "interval", "too_few",
)  # fmt: skip
