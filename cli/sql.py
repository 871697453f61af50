"""``jsdelta query sql``: one statement of the user."""

import re
from collections.abc import Sequence
from typing import Annotated

import typer

from jsdelta_db.errors import UsageError

from . import printing
from .groups import with_groups
from .output import write_plain

LONGEST = 86_400.0  # seconds: a day
# As in JSON, and .5 or +1; but not 007, 1_000 or nan, which may be names and uids.
NUMBER = re.compile(r"[+-]?(?:(?:0|[1-9]\d*)(\.\d*)?|(\.\d+))([eE][+-]?\d+)?", re.ASCII)
LIMIT, MOST_DIGITS = 2**63, 20  # of whole numbers, on either engine


def parse_timeout(text: str) -> float:
    """Read a number of seconds."""
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= LONGEST:
        raise typer.BadParameter(f"{text!r} is not valid: must be a number of seconds up to {LONGEST:g}")
    return seconds


Statement = Annotated[str, typer.Argument(metavar="'SELECT …'", help="One statement that reads.")]
Values = Annotated[
    list[str] | None,
    typer.Option(
        "-p",
        "--parameter",
        metavar="NAME=VALUE",
        help="Value of :NAME (repeatable): a number if written like one, else text; '12' in quotes is text.",
    ),
]
Timeout = Annotated[
    float, typer.Option(metavar="SECONDS", parser=parse_timeout, help="Stop the statement after this.")
]


def parse_values(pairs: Sequence[str]) -> dict[str, int | float | str]:
    """Read ``name=value``; what is written like a number is one, and what stands in single quotes is text.

    Raises:
        UsageError: one is no such pair, a name is given twice, or a number is too large.
    """
    values: dict[str, int | float | str] = {}
    for pair in pairs:
        name, found, text = pair.partition("=")
        if not found or not name.isidentifier():
            raise UsageError(f"-p {pair!r} is not valid: must be NAME=VALUE, such as -p eps=0.03")
        if name in values:
            raise UsageError(f"-p {name} is given twice; give it once")
        values[name] = _read_value(name, text)
    return values


def _read_value(name: str, text: str) -> int | float | str:
    if len(text) > 1 and text[0] == text[-1] == "'":
        return text[1:-1]
    number = NUMBER.fullmatch(text)
    if number is None:
        return text
    if any(number.groups()):
        return float(text)
    # Of very many digits int() itself would refuse to read them.
    if len(text) > MOST_DIGITS or not -LIMIT <= int(text) < LIMIT:
        raise UsageError(f"-p {name}: {text[:40]} is beyond 64 bits; write -p \"{name}='…'\" for text")
    return int(text)


@with_groups
def sql(
    ctx: typer.Context,
    *,
    statement: Statement,
    values: Values = None,
    timeout: Timeout = 30.0,
    output: printing.Printing,
) -> None:
    """Run one SQL SELECT, read-only; BLOBs are shown in hex.

    The view sample_scores has a row per scored attempt: dataset, method, model, attack,
    norm, eps, source_label, target_label, success, js_delta and more; jsdelta db schema lists
    all. SQLite also has median(x) and quantile(x, q); on PostgreSQL write
    percentile_cont(q) WITHIN GROUP (ORDER BY x).

    Example: jsdelta query sql "SELECT eps, avg(js_delta) FROM sample_scores WHERE success = 1 GROUP BY eps"
    """
    from jsdelta_db.queries.sql import query_sql

    found = query_sql(ctx.obj.workspace().db_url, statement, timeout, parse_values(values or ()))
    write_plain(found.columns, found.rows, output)
