"""``jsdelta query pairs|histogram|quantiles|outcomes``: where bugs and JSΔ lie, and what evaluators say."""

from typing import TYPE_CHECKING, Annotated

import typer

from . import options, printing, selecting
from .groups import with_groups
from .output import note, note_counted_once, note_intervals, note_pooled, note_population, write_rows
from .query import By, note_nothing

if TYPE_CHECKING:
    from jsdelta_db.queries.grouping import Table
    from jsdelta_db.queries.selection import Selection

PAIR_KEYS = (
    "beta", "n_success", "n_bugs", "bug_fraction", "bug_fraction_low", "bug_fraction_high", "covers",
    "n_images", "too_few", "warnings",
)  # fmt: skip

OneBeta = Annotated[float | None, options.threshold("Threshold on JSΔ; default: 0.1.", "--beta")]
Pivot = Annotated[
    bool, typer.Option("--pivot", help="A row for each source label, a column for each target label.")
]
Bins = Annotated[int, options.whole("Bins between JSΔ = 0 and 1; each β is an edge.", 1, 1000)]
Quantiles = Annotated[
    list[str] | None,
    typer.Option("--q", metavar="Q,Q…", help="Quantiles, such as 0.5 (repeatable); default: five of them."),
]


@with_groups
def pairs(
    ctx: typer.Context,
    *,
    beta: OneBeta = None,
    by: By = None,
    pivot: Pivot = False,
    selection: selecting.Selecting,
    output: printing.Printing,
) -> None:
    """Count the bugs of each label pair: from the image's label to the label aimed at or reached.

    Example: jsdelta query pairs --eps 8 --pivot
    """
    from jsdelta_db.config.evaluation import DEFAULT_BETA
    from jsdelta_db.queries import pairs as queries

    with ctx.obj.read_store() as connection:
        table = queries.query_pairs(connection, beta or DEFAULT_BETA, split_names(by), selection)
    facts = {*table.keys, "beta"} - {"eps"}
    if pivot:
        keys, rows = queries.pivot(table)
        write_rows(rows, keys, output, facts=facts - {"source_label"}, norm=table.norm)
    else:
        write_rows(table.rows, [*table.keys, *PAIR_KEYS], output, facts=facts, norm=table.norm)
        few = "fewer than 30 images with a success, or than 5 with a bug or with a non-bug"
        note_intervals(table.rows, output, few)
    _note_rows(ctx, table, selection)


@with_groups
def histogram(
    ctx: typer.Context,
    *,
    bins: Bins = 40,
    beta: options.Betas = None,
    by: By = None,
    selection: selecting.Selecting,
    output: printing.Printing,
) -> None:
    """Count successful samples by their JSΔ, bin by bin; the last bin has no upper end.

    Example: jsdelta query histogram --bins 10 --by eps
    """
    from jsdelta_db.config.evaluation import DEFAULT_BETA
    from jsdelta_db.queries.distributions import HISTOGRAM_KEYS, query_histogram

    with ctx.obj.read_store() as connection:
        table = query_histogram(connection, bins, beta or (DEFAULT_BETA,), split_names(by), selection)
    facts = {*table.keys, "n_success", "n_images"} - {"eps"}
    write_rows(table.rows, [*table.keys, *HISTOGRAM_KEYS], output, facts=facts, norm=table.norm)
    _note_images(output)
    _note_rows(ctx, table, selection)


@with_groups
def quantiles(
    ctx: typer.Context,
    *,
    q: Quantiles = None,
    by: By = None,
    selection: selecting.Selecting,
    output: printing.Printing,
) -> None:
    """Show quantiles of the JSΔ of successful samples, with intervals.

    Example: jsdelta query quantiles --q 0.5 --by eps
    """
    from jsdelta_db.queries.distributions import DEFAULT_QUANTILES, QUANTILE_KEYS, query_quantiles

    wanted = [_parse_quantile(text) for text in split_names(q)] or DEFAULT_QUANTILES
    with ctx.obj.read_store() as connection:
        table = query_quantiles(connection, wanted, split_names(by), selection)
    facts = {*table.keys, "n_success", "n_images"} - {"eps"}
    write_rows(table.rows, [*table.keys, *QUANTILE_KEYS], output, facts=facts, norm=table.norm)
    _note_images(output)
    _note_rows(ctx, table, selection)


@with_groups
def outcomes(
    ctx: typer.Context,
    *,
    beta: OneBeta = None,
    by: By = None,
    selection: selecting.Selecting,
    output: printing.Printing,
) -> None:
    """Show what evaluators make of successes: unfooled, the same mistake, or another; for bugs and non-bugs.

    Example: jsdelta query outcomes --eps 8
    """
    from jsdelta_db.config.evaluation import DEFAULT_BETA
    from jsdelta_db.queries.outcomes import OUTCOME_KEYS, query_outcomes

    with ctx.obj.read_store() as connection:
        table = query_outcomes(connection, beta or DEFAULT_BETA, split_names(by), selection)
    facts = {*table.keys, "beta", "n_unknown"} - {"eps"}
    write_rows(table.rows, [*table.keys, *OUTCOME_KEYS], output, facts=facts, norm=table.norm)
    _note_images(output)
    if any(row["n_unknown"] for row in table.rows):
        note("n_unknown: scores of an earlier version; jsdelta doctor --repair fills them in")
    _note_rows(ctx, table, selection)


def split_names(given: list[str] | None) -> list[str]:
    """Return the parts of options that take several, by comma or repeated."""
    return [name.strip() for text in given or () for name in text.split(",")]


def _parse_quantile(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise typer.BadParameter(
            f"--q {text!r} is not a number: must be between 0 and 1, such as 0.5"
        ) from None


def _note_images(output: printing.Output) -> None:
    if output.is_for_people:
        note("95 % intervals over images, not over models.")


def _note_rows(ctx: typer.Context, table: "Table", selection: "Selection") -> None:
    """Say beside the rows what they count, and where there are none."""
    note_counted_once(table)
    note_pooled(table.pooled, table.norm)
    note_population(selection)
    note_nothing(ctx, table.rows, selection)
