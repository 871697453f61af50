"""``jsdelta query``: questions to the store; reads only."""

from pathlib import Path
from typing import Annotated

import typer

from . import options
from .output import Format, note, note_pooled, write_bugs

app = typer.Typer(no_args_is_help=True, help="Ask the store.")


@app.callback()
def query() -> None:
    """Ask the store: reads only, makes nothing."""


@app.command()
def bugs(
    ctx: typer.Context,
    beta: options.Betas = None,
    by: Annotated[
        str | None,
        typer.Option(metavar="KEY,KEY…", help="Group by these, such as eps,method,attacked,label-pair."),
    ] = None,
    ensemble: options.Ensemble = None,
    dataset: options.SelectDataset = None,
    method: options.SelectMethod = None,
    eps: options.SelectEps = None,
    attack: options.SelectAttack = None,
    form: Annotated[Format, typer.Option("--format", help="How to print.")] = Format.TABLE,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write to a file.")
    ] = None,
    header: Annotated[bool, typer.Option("--header/--no-header", help="Column names above the rows.")] = True,
) -> None:
    """Count the bugs: successful samples whose JSΔ is below β.

    Example: jsdelta query bugs --beta 0.01
    """
    from jsdelta_db.config import DEFAULT_BETAS
    from jsdelta_db.store.queries import count_unfinished, query_bugs
    from jsdelta_db.store.reading import reading

    keys = [key.strip() for key in by.split(",")] if by else []
    with reading(ctx.obj.workspace().db_url) as connection:
        unfinished = count_unfinished(connection)
        table = query_bugs(
            connection, beta or DEFAULT_BETAS, keys, options.select(ensemble, dataset, method, eps, attack)
        )
    write_bugs(table.keys, table.rows, form, output, header)
    note_pooled(table.pooled)
    if unfinished:
        note(f"left out: {unfinished} unfinished; the same jsdelta attack as before goes on with them")
    if not table.rows:
        note("no finished attack matches; make one with jsdelta attack --eps 3")
