"""``jsdelta plot``: figures from stored rows."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from jsdelta_db.errors import NothingToDoError, UsageError

from . import options, selecting
from .bug_table import BUG_KEYS
from .commands import App
from .distributions import split_names
from .groups import with_groups
from .output import note_counted_once, note_pooled, note_population, say
from .plot_options import Drawing, Force
from .query import By
from .tables import Row, title_of

if TYPE_CHECKING:
    from jsdelta_db.queries.grouping import Table
    from jsdelta_db.queries.selection import Selection
    from jsdelta_db.store.reading import Reader

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

BELOW_POINTS = tuple(step / 100 for step in range(151))
LOWEST, HIGHEST, STEPS = 0.005, 1.0, 40  # of a curve over β, in equal steps of its logarithm
QUANTITIES = {"fraction": "bug_fraction", "rate": "bug_rate"}

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
    from jsdelta_db.plots.histogram import draw_histogram
    from jsdelta_db.queries.distributions import HISTOGRAM_KEYS, query_histogram

    path, betas = drawing.check("histogram"), beta or DEFAULT_BETAS
    with ctx.obj.read_store() as connection:
        table = query_histogram(connection, bins, betas, add_radius(by), selection)
        facts = list_facts(connection, selection, table)
    sheet = drawing.sheet("JSΔ of successful samples", facts)
    figure = draw_histogram(table, betas, sheet)
    drawing.save(figure, path, table.rows, [*table.keys, *HISTOGRAM_KEYS])
    note_table(table, selection)


@app.command()
@with_groups
def ecdf(ctx: typer.Context, *, by: By = None, selection: selecting.Selecting, drawing: Drawing) -> None:
    """Draw the share of successful samples below each JSΔ, a line for each group, with its interval.

    Example: jsdelta plot ecdf -o ecdf.pdf
    """
    from jsdelta_db.plots.curves import Axis, draw_curves
    from jsdelta_db.queries.distributions import BELOW_KEYS, query_below

    path = drawing.check("ecdf")
    with ctx.obj.read_store() as connection:
        table = query_below(connection, BELOW_POINTS, add_radius(by), selection)
        facts = list_facts(connection, selection, table)
    axis = Axis("js_delta", "share_below", "JSΔ", "share of successes below")
    sheet = drawing.sheet("JSΔ of successful samples", facts)
    figure = draw_curves(table, axis, sheet)
    drawing.save(figure, path, table.rows, [*table.keys, *BELOW_KEYS])
    note_table(table, selection)


@app.command()
@with_groups
def curve(
    ctx: typer.Context,
    *,
    beta: options.Betas = None,
    by: By = None,
    selection: selecting.Selecting,
    drawing: Drawing,
) -> None:
    """Draw the bug fraction against β, a line for each group, with its interval; each --beta is marked.

    Example: jsdelta plot curve -o curve.pdf --data curve.csv
    """
    from jsdelta_db.config.evaluation import DEFAULT_BETAS
    from jsdelta_db.plots.curves import Axis, draw_curves
    from jsdelta_db.queries.bugs import query_bugs

    path, marked = drawing.check("curve"), tuple(beta or DEFAULT_BETAS)
    steps = (LOWEST * (HIGHEST / LOWEST) ** (step / STEPS) for step in range(STEPS + 1))
    points = sorted({*(round(point, 6) for point in steps), *marked})
    with ctx.obj.read_store() as connection:
        table = query_bugs(connection, points, add_radius(by), selection)
        facts = list_facts(connection, selection, table)
    axis = Axis("beta", "bug_fraction", "threshold β", "bugs / successes", is_log=True, marked=marked)
    figure = draw_curves(table, axis, drawing.sheet("Bug fraction by threshold", facts))
    drawing.save(figure, path, table.rows, [*table.keys, *BUG_KEYS])
    note_table(table, selection)


@app.command()
@with_groups
def sweep(
    ctx: typer.Context,
    *,
    over: Over = "eps",
    quantity: Quantity = "fraction",
    beta: OneBeta = None,
    by: By = None,
    selection: selecting.Selecting,
    drawing: Drawing,
) -> None:
    """Draw the bug fraction, or the rate, against ε or another number, a line for each group.

    Example: jsdelta plot sweep --over eps --quantity rate -o sweep.pdf
    """
    from jsdelta_db.config.checks import check_choice
    from jsdelta_db.config.evaluation import DEFAULT_BETA
    from jsdelta_db.plots.curves import Axis, draw_curves
    from jsdelta_db.queries.bugs import query_bugs

    path = drawing.check("sweep")
    check_choice("quantity", quantity, tuple(QUANTITIES))
    beta = beta or DEFAULT_BETA
    with ctx.obj.read_store() as connection:
        table = query_bugs(connection, [beta], add_radius(by, over), selection)
        facts = list_facts(connection, selection, table)
    _check_numbers(table.rows, over)
    if over == "eps" and not table.norm:
        raise UsageError("ε of several norms has no common axis; choose with --norm linf")
    is_levels = over == "eps" and table.norm == "linf"
    name = "ε in 1/255" if is_levels else "ε" if over == "eps" else title_of(over)
    below = "successes" if quantity == "fraction" else "attempts"
    axis = Axis(
        over, QUANTITIES[quantity], name, f"bugs / {below}", unit=255.0 if is_levels else 1.0, is_full=False
    )
    sheet = drawing.sheet(f"Bug {quantity} at β = {beta:g}", facts)
    figure = draw_curves(table, axis, sheet)
    drawing.save(figure, path, table.rows, [*table.keys, *BUG_KEYS])
    note_table(table, selection)


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


def add_radius(by: list[str] | None, *first: str) -> list[str]:
    """Return what a figure's rows are divided by: what was asked for, and ε, which makes columns."""
    from jsdelta_db.queries.distributions import RADIUS

    keys = [*first, *split_names(by)]
    return [*keys, *(key for key in RADIUS if key not in keys)]


def list_facts(connection: "Reader", selection: "Selection", table: "Table") -> list[str]:
    """Return a figure's subtitle.

    Raises:
        NothingToDoError: there are no rows to draw.
    """
    from jsdelta_db.queries.captions import describe
    from jsdelta_db.queries.selection import list_evaluations

    if not table.rows:
        raise NothingToDoError(
            "no finished attack matches, so there is nothing to draw; run jsdelta attack --eps 3"
        )
    return describe(list_evaluations(connection, selection))


def note_table(table: "Table", selection: "Selection") -> None:
    """Say beside a figure what its groups pool."""
    note_counted_once(table)
    note_pooled(table.pooled, table.norm)
    note_population(selection)


def _check_numbers(rows: Sequence[Row], key: str) -> None:
    """Check that a key's values can stand along an axis.

    Raises:
        UsageError: one is no number.
    """
    for row in rows:
        if isinstance(row[key], bool) or not isinstance(row[key], int | float):
            raise UsageError(
                f"--over {key} has the value {row[key]!r}, which is no number; add --by {key}, or choose "
                "attacks and models that have one"
            )
