"""Data on stdout in the format asked for; progress, notes and errors on stderr."""

import csv
import io
import json
import os
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import StrEnum
from itertools import chain, count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from jsdelta_db.config.eps import format_eps
from jsdelta_db.errors import UsageError
from jsdelta_db.runtime.progress import Task

if TYPE_CHECKING:
    from jsdelta_db.queries.selection import Selection

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


class Format(StrEnum):
    """How rows are written."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"
    JSONL = "jsonl"
    MARKDOWN = "markdown"


FOR_PEOPLE = (Format.TABLE, Format.MARKDOWN)


class TerminalProgress:
    """Bars and news on stderr; bars only where stderr is a terminal, a line per finished task elsewhere."""

    def __init__(self) -> None:
        from rich.console import Console

        self._console = Console(stderr=True)

    def report(self, message: str) -> None:
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


def note_pooled(pooled: Mapping[str, Sequence[Any]], norm: str = "linf") -> None:
    """Name, on stderr, what differs among the attacks behind each row or panel.

    Args:
        norm: of every ε; "" if there are several.
    """
    for key, values in pooled.items():
        shown = (format_eps(value, norm) if key == "eps" else _text(value) for value in values)
        note(f"pooled over {key}: {', '.join(shown)}")


def note_population(selection: "Selection") -> None:
    """Say, on stderr, if not all attempts are looked at."""
    if selection.population != "attacked-correct":
        note(f"population: {selection.population}, the images that every evaluator has right, too")


def write_rows(
    rows: Sequence[Row],
    keys: Sequence[str],
    form: Format,
    output: Path | None = None,
    *,
    header: bool = True,
    facts: Collection[str] = (),
    norm: str = "linf",
) -> None:
    """Write rows with these keys, to a file if ``output`` is given.

    Args:
        facts: columns that go above a table, once, where all rows say the same.
        norm: of ε, where the rows do not say it; "" if there are several.

    Raises:
        UsageError: the file's folder does not exist or cannot be written.
    """
    _write(render_rows(rows, keys, form, header=header, facts=facts, norm=norm), output)


def write_plain(
    columns: Sequence[str],
    rows: Sequence[Sequence[Any]],
    form: Format,
    output: Path | None = None,
    *,
    header: bool = True,
) -> None:
    """Write rows whose columns have no meaning here; of equal names the later ones get a number.

    Raises:
        UsageError: the file's folder does not exist or cannot be written.
    """
    names: list[str] = []
    for column in columns:
        numbered = (f"{column}_{number}" for number in count(2))
        names.append(next(name for name in chain([column], numbered) if name not in names))
    if form in FOR_PEOPLE:
        draw = _markdown if form is Format.MARKDOWN else _table
        cells = [[" ".join(_text(value).splitlines()) for value in row] for row in rows]
        _write(draw(names, cells, header), output)
    else:
        named = [dict(zip(names, row, strict=True)) for row in rows]
        _write(render_rows(named, names, form, header=header), output)


def _write(text: str, output: Path | None) -> None:
    if output is None:
        sys.stdout.write(text)
        return
    try:
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(
            f"--output {str(output)!r} cannot be written: {error.strerror}; choose another file"
        ) from error


def render_rows(
    rows: Sequence[Row],
    keys: Sequence[str],
    form: Format,
    *,
    header: bool = True,
    facts: Collection[str] = (),
    norm: str = "linf",
) -> str:
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
    cells = [{key: _cell(row, key, norm) for key in columns} for row in rows]
    if form is Format.MARKDOWN:
        return _markdown(list(map(_title, columns)), [list(line.values()) for line in cells], header)
    shared = _shared_by_all(cells, facts) if header else []
    heading = ", ".join(f"{_title(key)} {cells[0][key]}" for key in shared if rows[0][key] is not None)
    columns = [key for key in columns if key not in shared]
    table = _table(list(map(_title, columns)), [[line[key] for key in columns] for line in cells], header)
    return f"{heading}\n{table}" if heading else table


def _columns_for_people(keys: Sequence[str]) -> list[str]:
    """Leave out the keys that are shown inside another cell."""
    folded = {f"{key}_{end}" for key in keys for end in ("low", "high")} | {"interval", "too_few"}
    return [key for key in keys if key not in folded]


def _shared_by_all(cells: Sequence[Mapping[str, str]], facts: Collection[str]) -> list[str]:
    """Return the facts that every row shows alike: they go above the table, once."""
    if not cells:
        return []
    return [key for key in cells[0] if key in facts and len({line[key] for line in cells}) == 1]


def _title(key: str) -> str:
    return TITLES.get(key, key.replace("_", " "))


def _cell(row: Row, key: str, norm: str) -> str:
    value = row[key]
    if value is not None and key == "eps":
        return format_eps(value, row.get("norm", norm))
    if value is not None and row.get(f"{key}_low") is not None:
        mark = " *" if row.get("too_few") and key in MARKED else ""
        return f"{value:.3f} [{row[f'{key}_low']:.3f}, {row[f'{key}_high']:.3f}]{mark}"
    if value is not None and key in UIDS:
        return str(value)[:SHORT_UID]
    return (
        f"{value:,}" if isinstance(value, int) and key.startswith(("n_", "rows", "bytes")) else _text(value)
    )


def _text(value: object) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


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
    table_keys: Sequence[str],
    rows: Sequence[Row],
    form: Format,
    output: Path | None,
    header: bool,
    norm: str = "linf",
) -> None:
    """Write the rows of ``query bugs`` and, for people, what the marks mean."""
    facts = {*table_keys, "n_attempted", "n_skipped", "n_no_baseline"} - {"eps"}
    write_rows(rows, [*table_keys, *BUG_KEYS], form, output, header=header, facts=facts, norm=norm)
    if form in FOR_PEOPLE and rows:
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
