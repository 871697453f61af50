"""Data on stdout in the format asked for; notes on stderr. Text for people is escaped here, and only here."""

import csv
import json
import sys
from collections.abc import Collection, Mapping, Sequence
from itertools import chain, count
from typing import TYPE_CHECKING, Any

import typer

from jsdelta_db.config.eps import format_eps
from jsdelta_db.runtime.escaping import LONGEST_CELL, escape

from .printing import Format, Output
from .tables import (
    Row,
    find_shared,
    format_cell,
    format_value,
    list_columns,
    render_latex,
    render_markdown,
    render_table,
    title_of,
)

if TYPE_CHECKING:
    from jsdelta_db.queries.grouping import Table
    from jsdelta_db.queries.selection import Selection


MOST_VALUES, LONGEST_VALUE = 4, 60  # of a pooled fact
RENDER = {Format.TABLE: render_table, Format.MARKDOWN: render_markdown, Format.LATEX: render_latex}
COVERAGE = {
    "images": "over images, not over models",
    "images+evaluators": "over images and evaluators, not over attacked models",
    "images+models": "over images and models",
}


def note(message: str) -> None:
    """Print a line beside the data, on stderr."""
    typer.echo(escape(message), err=True)


def say(line: object) -> None:
    """Print a line that is the command's answer, on stdout."""
    typer.echo(escape(str(line)))


def note_pooled(pooled: Mapping[str, Sequence[Any]], norm: str = "linf") -> None:
    """Name, on stderr, the facts that differ among the attacks behind a row or panel, and some values.

    Args:
        norm: of every ε; "" if there are several.
    """
    for key, values in pooled.items():
        shown = [format_eps(v, norm) if key == "eps" else format_value(v) for v in values[:MOST_VALUES]]
        more = f" and {len(values) - MOST_VALUES:,} more" if len(values) > MOST_VALUES else ""
        note(f"pooled over {key}: {', '.join(value[:LONGEST_VALUE] for value in shown)}{more}")


def note_counted_once(table: "Table") -> None:
    """Say, on stderr, what kept attempts from counting twice."""
    twice = [key for key in table.separated if key != "trained_on"]
    if len(twice) < len(table.separated):
        note("also by trained_on: models of constructed data sets; --where trained_on=A,B pools them")
    if twice:
        note(f"also by {', '.join(twice)}: the same attempts were judged or aimed at more than once")
    if table.n_left_out:
        note(f"counted once: attempts of {table.n_left_out:,} attacks that larger ones contain")


def note_population(selection: "Selection") -> None:
    """Name, on stderr, the population if it is not all attempts."""
    if selection.population != "attacked-correct":
        note(f"population: {selection.population}, the images that every evaluator classifies correctly, too")
    if selection.min_change is not None:
        note(
            f"only samples whose attacked model changed by {selection.min_change:g} of a real change or more"
        )
    if selection.min_confidence is not None:
        note(
            f"only samples that the attacked model gives the target with {selection.min_confidence:g} or more"
        )


def note_intervals(rows: Sequence[Row], output: Output, few: str) -> None:
    """Explain, on stderr, a table's intervals and the marks of rows with few images.

    Args:
        few: what is marked.
    """
    if output.is_for_people and rows:
        marked = f" * {few}." if any(row["too_few"] for row in rows) else ""
        covers = dict.fromkeys(row["covers"] for row in rows if row.get("covers")) or ("images",)
        note(f"95 % intervals {' / '.join(COVERAGE[each] for each in covers)}.{marked}")


def write_rows(
    rows: Sequence[Row],
    keys: Sequence[str],
    output: Output = Output(),  # noqa: B008 frozen
    *,
    facts: Collection[str] = (),
    norm: str = "linf",
) -> None:
    """Write rows with these keys.

    Args:
        facts: columns that stand above a table, once, where all rows have the same value.
        norm: of ε, where the rows do not have it; "" if there are several.

    Raises:
        UsageError: the file's folder does not exist or cannot be written.
    """
    text: str | bytes
    if output.is_for_people:
        text = _render_for_people(rows, keys, output, facts, norm)
    else:
        text = _render_for_machines(rows, keys, output)
    _write(text, output)


def write_plain(columns: Sequence[str], rows: Sequence[Sequence[Any]], output: Output) -> None:
    """Write rows of any columns; of equal names the later ones get a number.

    Raises:
        UsageError: the file's folder does not exist or cannot be written.
    """
    names: list[str] = []
    for column in columns:
        numbered = (f"{column}_{number}" for number in count(2))
        names.append(next(name for name in chain([column], numbered) if name not in names))
    text: str | bytes
    if output.is_for_people:
        render = RENDER[output.form]
        cells = [
            [escape(" ".join(format_value(value).split("\n")), LONGEST_CELL) for value in row] for row in rows
        ]
        text = render([escape(name, LONGEST_CELL) for name in names], cells, output.header)
    else:
        text = _render_for_machines([dict(zip(names, row, strict=True)) for row in rows], names, output)
    _write(text, output)


def _write(content: str | bytes, output: Output) -> None:
    if output.file is None:
        if isinstance(content, bytes):
            sys.stdout.flush()
            sys.stdout.buffer.write(content)
        else:
            sys.stdout.write(content)
    else:
        from jsdelta_db.runtime.outputs import write_output

        write_output(output.file, content if isinstance(content, bytes) else content.encode())


class _CsvLines(list[str]):
    r"""Lines of CSV that end in ``\n``; csv quotes a lone ``\r``, too, only if that ends its lines."""

    def write(self, line: str) -> None:
        """Take one line."""
        self.append(line.removesuffix("\r\n") + "\n")


def _render_for_machines(rows: Sequence[Row], keys: Sequence[str], output: Output) -> str | bytes:
    """Return rows in full precision."""
    if output.form is Format.PARQUET:
        from jsdelta_db.queries.arrow import as_arrow, as_parquet

        return as_parquet(as_arrow([{key: row[key] for key in keys} for row in rows], keys))
    if output.form is Format.CSV:
        lines = _CsvLines()
        writer = csv.writer(lines, lineterminator="\r\n")
        writer.writerows([keys] if output.header else [])
        writer.writerows([row[key] for key in keys] for row in rows)
        return "".join(lines)
    objects = [{key: row[key] for key in keys} for row in rows]
    if output.form is Format.JSON:
        return json.dumps(objects, indent=2, ensure_ascii=False) + "\n"
    return "".join(json.dumps(each, ensure_ascii=False) + "\n" for each in objects)


def _render_for_people(
    rows: Sequence[Row], keys: Sequence[str], output: Output, facts: Collection[str], norm: str
) -> str:
    """Return rows as a table of short cells; a heading names the facts that all rows share."""
    columns = list_columns(keys)
    cells = [{key: escape(format_cell(row, key, norm), LONGEST_CELL) for key in columns} for row in rows]
    if output.form is not Format.TABLE:
        shown = [list(line.values()) for line in cells]
        return RENDER[output.form](list(map(title_of, columns)), shown, output.header)
    shared = find_shared(cells, facts) if output.header else []
    heading = ", ".join(f"{title_of(key)} {cells[0][key]}" for key in shared if rows[0][key] is not None)
    columns = [key for key in columns if key not in shared]
    shown = [[line[key] for key in columns] for line in cells]
    table = render_table(list(map(title_of, columns)), shown, output.header)
    return f"{heading}\n{table}" if heading else table
