"""``jsdelta plot``: figures from stored rows."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from . import options, selecting
from .commands import App
from .distributions import split_names
from .groups import with_groups
from .output import note_counted_once, note_pooled, note_population, say
from .plot_options import Drawing, Force
from .query import By

if TYPE_CHECKING:
    from jsdelta_db.queries.grouping import Table
    from jsdelta_db.queries.selection import Selection

Figure = Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="A .png, .svg or .pdf file.")]
Attack = Annotated[
    str | None, typer.Option(metavar="UID", help="Samples of this attack; default: the newest.")
]
FeaturesFrom = Annotated[float | None, options.threshold("Only samples with JSΔ from BETA up.")]
Source = Annotated[
    str | None, typer.Option(metavar="LABEL", help="Only images of this label, by name or number.")
]
Target = Annotated[str | None, typer.Option(metavar="LABEL", help="Only samples that reached this label.")]
Limit = Annotated[int, options.whole("How many samples, at most.", 1, 40)]
OneBeta = Annotated[float | None, options.threshold("Threshold on JSΔ; default: 0.1.", "--beta")]
Bins = Annotated[int, options.whole("Bins between JSΔ = 0 and 1; each β is an edge.", 1, 1000)]
Over = Annotated[
    str, typer.Option(metavar="KEY", help="Along the axis: a fact with numbers, such as eps or steps.")
]
Quantity = Annotated[
    str, typer.Option(metavar="fraction|rate", help="Bugs per success, or per attempted image and target.")
]

app = App(no_args_is_help=True, help="Draw figures.")


@app.callback()
def plot() -> None:
    """Draw figures from the store's rows."""


@app.command()
@with_groups
def histogram(
    ctx: typer.Context,
    *,
    beta: options.Betas = None,
    bins: Bins = 40,
    by: By = None,
    selection: selecting.Selecting,
    drawing: Drawing,
) -> None:
    """Draw the JSΔ of successful samples: a column for each ε, a row for each group, with each β marked.

    Example: jsdelta plot histogram --by method -o histogram.svg
    """
    from jsdelta_db.config.evaluation import DEFAULT_BETAS
    from jsdelta_db.figures import curves

    path, setting = drawing.check("histogram")
    with ctx.obj.read_store() as connection:
        drawn = curves.histogram(connection, selection, split_names(by), beta or DEFAULT_BETAS, bins, setting)
    drawing.save(drawn, path)
    note_table(drawn.table, selection)


@app.command()
@with_groups
def ecdf(ctx: typer.Context, *, by: By = None, selection: selecting.Selecting, drawing: Drawing) -> None:
    """Draw the share of successful samples below each JSΔ, a line for each group, with its interval.

    Example: jsdelta plot ecdf -o ecdf.pdf
    """
    from jsdelta_db.figures import curves

    path, setting = drawing.check("ecdf")
    with ctx.obj.read_store() as connection:
        drawn = curves.ecdf(connection, selection, split_names(by), setting)
    drawing.save(drawn, path)
    note_table(drawn.table, selection)


@app.command()
@with_groups
def curve(
    ctx: typer.Context,
    *,
    beta: options.Betas = None,
    by: By = None,
    measuring: selecting.MeasuringBy,
    selection: selecting.Selecting,
    drawing: Drawing,
) -> None:
    """Draw the bug fraction against β, a line for each group, with its interval; each --beta is marked.

    Example: jsdelta plot curve -o curve.pdf --data curve.csv
    """
    from jsdelta_db.config.evaluation import DEFAULT_BETAS
    from jsdelta_db.figures import curves

    path, setting = drawing.check("curve")
    selection = measuring.narrow(selection)
    with ctx.obj.read_store() as connection:
        drawn = curves.curve(
            connection, selection, split_names(by), beta or DEFAULT_BETAS, measuring.measuring, setting
        )
    drawing.save(drawn, path)
    note_table(drawn.table, selection)


@app.command()
@with_groups
def sweep(
    ctx: typer.Context,
    *,
    over: Over = "eps",
    quantity: Quantity = "fraction",
    beta: OneBeta = None,
    by: By = None,
    measuring: selecting.MeasuringBy,
    selection: selecting.Selecting,
    drawing: Drawing,
) -> None:
    """Draw the bug fraction, or the rate, against ε or another number, a line for each group.

    Example: jsdelta plot sweep --over eps --quantity rate -o sweep.pdf
    """
    from jsdelta_db.config.evaluation import DEFAULT_BETA
    from jsdelta_db.figures import curves

    path, setting = drawing.check("sweep")
    selection = measuring.narrow(selection)
    with ctx.obj.read_store() as connection:
        drawn = curves.sweep(
            connection, selection, over, split_names(by), beta or DEFAULT_BETA, quantity,
            measuring.measuring, setting,
        )  # fmt: skip
    drawing.save(drawn, path)
    note_table(drawn.table, selection)


@app.command()
def samples(
    ctx: typer.Context,
    attack: Attack = None,
    evaluation: options.Evaluation = None,
    bugs: options.BugsBelow = None,
    features: FeaturesFrom = None,
    source: Source = None,
    target: Target = None,
    limit: Limit = 8,
    figure: Figure = Path("jsdelta-samples.png"),
    force: Force = False,
    data_dir: options.DataDir = None,
) -> None:
    """Draw successful samples, from the lowest JSΔ to the highest, with each evaluator's prediction.

    Example: jsdelta plot samples --limit 4 -o samples.png
    """
    from jsdelta_db.config.evaluation import DEFAULT_BETAS
    from jsdelta_db.plots.files import check_figure_path, save_figure
    from jsdelta_db.plots.samples import draw_samples
    from jsdelta_db.samples.choice import SampleChoice
    from jsdelta_db.samples.pictures import read_pictures

    choice = SampleChoice(attack, evaluation, bugs, features, source, target)
    check_figure_path(figure, force=force)
    title, pictures = read_pictures(ctx.obj.workspace(data_dir), choice, limit)
    save_figure(draw_samples(pictures, title=title, beta=bugs or features or DEFAULT_BETAS[-1]), figure)
    say(figure)


def note_table(table: "Table", selection: "Selection") -> None:
    """Say beside a figure what its groups pool."""
    note_counted_once(table)
    note_pooled(table.pooled, table.norm)
    note_population(selection)
