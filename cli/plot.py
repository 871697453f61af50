"""``jsdelta plot``: figures from stored rows."""

from pathlib import Path
from typing import Annotated

import typer

from . import options
from .output import note_pooled, note_population

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
    norm: options.SelectNorm = None,
    eps: options.SelectEps = None,
    objective: options.SelectObjective = None,
    library: options.SelectLibrary = None,
    attack: options.SelectAttack = None,
    temperature: options.SelectTemperature = None,
    population: options.Population = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="A .png or .svg file.")
    ] = Path("jsdelta-histogram.png"),
) -> None:
    """Draw the JSΔ of successful samples by ε, with each β marked.

    Example: jsdelta plot histogram -o histogram.svg
    """
    from jsdelta_db.config.evaluation import DEFAULT_BETAS, check_beta
    from jsdelta_db.errors import NothingToDoError
    from jsdelta_db.plots.files import check_figure_path, save_figure
    from jsdelta_db.plots.histogram import draw_histogram
    from jsdelta_db.queries.bugs import js_delta_by_eps
    from jsdelta_db.queries.grouping import find_pooled
    from jsdelta_db.queries.selection import list_evaluations
    from jsdelta_db.store.reading import reading

    betas = [check_beta(value) for value in beta or DEFAULT_BETAS]
    check_figure_path(output)
    with reading(ctx.obj.workspace().db_url) as connection:
        selection = options.select(ctx)
        js_delta = js_delta_by_eps(connection, selection)
        pooled = find_pooled(list_evaluations(connection, selection), ("norm", "eps"))
    if not js_delta:
        raise NothingToDoError(
            "no finished attack matches, so there is nothing to draw; run jsdelta attack --eps 3"
        )
    save_figure(draw_histogram(js_delta, betas), output)
    note_pooled(pooled)
    note_population(selection)
    typer.echo(output)


@app.command()
def samples(
    ctx: typer.Context,
    attack: Annotated[
        str | None, typer.Option(metavar="UID", help="Samples of this attack; default: the newest.")
    ] = None,
    evaluation: Annotated[
        str | None, typer.Option(metavar="UID", help="Who judged; default: the attack's first evaluation.")
    ] = None,
    bugs: Annotated[
        float | None,
        typer.Option(metavar="BETA", parser=options.parse_beta, help="Only samples with JSΔ below BETA."),
    ] = None,
    features: Annotated[
        float | None,
        typer.Option(metavar="BETA", parser=options.parse_beta, help="Only samples with JSΔ from BETA up."),
    ] = None,
    source: Annotated[
        str | None, typer.Option(metavar="LABEL", help="Only images of this label, by name or number.")
    ] = None,
    target: Annotated[
        str | None, typer.Option(metavar="LABEL", help="Only samples that reached this label.")
    ] = None,
    limit: Annotated[
        int, typer.Option(metavar="N", parser=options.whole(1, 40), help="How many samples, at most.")
    ] = 8,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="A .png or .svg file.")
    ] = Path("jsdelta-samples.png"),
    data_dir: options.DataDir = None,
) -> None:
    """Draw successful samples, from the lowest JSΔ to the highest, with what each evaluator says of them.

    Example: jsdelta plot samples --limit 4 -o samples.png
    """
    from jsdelta_db.config.evaluation import DEFAULT_BETAS
    from jsdelta_db.plots.files import check_figure_path, save_figure
    from jsdelta_db.plots.samples import draw_samples
    from jsdelta_db.samples.choice import SampleFilter
    from jsdelta_db.samples.pictures import read_pictures

    wanted = SampleFilter(bugs, features, source, target)
    check_figure_path(output)
    title, pictures = read_pictures(
        ctx.obj.workspace(data_dir), wanted, attack=attack, evaluation=evaluation, limit=limit
    )
    save_figure(draw_samples(pictures, title=title, beta=bugs or features or DEFAULT_BETAS[-1]), output)
    typer.echo(output)
