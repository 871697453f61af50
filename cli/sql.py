"""``jsdelta query sql``: one statement of the user."""

from typing import Annotated

import typer

from . import options
from .groups import with_groups
from .output import write_plain

LONGEST = 86_400.0  # seconds: a day


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
Timeout = Annotated[
    float, typer.Option(metavar="SECONDS", parser=parse_timeout, help="Stop the statement after this.")
]


@with_groups
def sql(
    ctx: typer.Context, *, statement: Statement, timeout: Timeout = 30.0, output: options.Printing
) -> None:
    """Run one SQL SELECT, read-only; BLOBs are shown in hex.

    The view sample_scores has a row per scored attempt: dataset, method, model, attack,
    norm, eps, source_label, target_label, success, js_delta and more.

    Example: jsdelta query sql "SELECT eps, avg(js_delta) FROM sample_scores WHERE success = 1 GROUP BY eps"
    """
    from jsdelta_db.queries.sql import query_sql

    found = query_sql(ctx.obj.workspace().db_url, statement, timeout)
    write_plain(found.columns, found.rows, output)
