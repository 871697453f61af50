"""``jsdelta plot``: figures from stored rows."""

from pathlib import Path
from typing import Annotated

import typer

from . import options
from .output import note_pooled

app = typer.Typer(no_args_is_help=True, help="Draw figures.")


@app.callback()
def plot() -> None:
    """Draw figures from the store's rows."""


@app.command()
def histogram(
    ctx: typer.Context,
    beta: options.Betas = None,
    ensemble: options.Ensemble = None,
    dataset: options.SelectDataset = None,
    method: options.SelectMethod = None,
    eps: options.SelectEps = None,
    attack: options.SelectAttack = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="A .png or .svg file.")
    ] = Path("jsdelta-histogram.png"),
) -> None:
    """Draw the JSΔ of successful samples by ε, with each β marked.

    Example: jsdelta plot histogram -o histogram.svg
    """
    from jsdelta_db.config import DEFAULT_BETAS, check_beta
    from jsdelta_db.errors import NothingToDoError
    from jsdelta_db.plots.histogram import check_figure_path, draw_histogram, save_figure
    from jsdelta_db.store.queries import find_pooled, js_delta_by_eps, list_evaluations
    from jsdelta_db.store.reading import reading

    betas = [check_beta(value) for value in beta or DEFAULT_BETAS]
    check_figure_path(output)
    with reading(ctx.obj.workspace().db_url) as connection:
        selection = options.select(ensemble, dataset, method, eps, attack)
        js_delta = js_delta_by_eps(connection, selection)
        pooled = find_pooled(list_evaluations(connection, selection), ("norm", "eps"))
    if not js_delta:
        raise NothingToDoError(
            "no finished attack matches, so there is nothing to draw; run jsdelta attack --eps 3"
        )
    save_figure(draw_histogram(js_delta, betas), output)
    note_pooled(pooled)
    typer.echo(output)
