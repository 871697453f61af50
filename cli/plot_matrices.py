"""``jsdelta plot pairs|agreement``: matrices of label pairs and of models."""

import typer

from jsdelta_db.errors import NothingToDoError

from . import options, selecting
from .groups import with_groups
from .plot import OneBeta, add_radius, list_facts, note_table
from .plot_options import Drawing
from .query import By


@with_groups
def pairs(
    ctx: typer.Context,
    *,
    beta: OneBeta = None,
    by: By = None,
    selection: selecting.Selecting,
    drawing: Drawing,
) -> None:
    """Draw the bug fraction of each label pair: a column for each ε, a row for each group.

    Example: jsdelta plot pairs --eps 8 -o pairs.pdf
    """
    from jsdelta_db.config.evaluation import DEFAULT_BETA
    from jsdelta_db.plots.heat_maps import Matrix, draw_matrices
    from jsdelta_db.queries.grouping import LABEL_KEYS
    from jsdelta_db.queries.pairs import query_pairs, sort_labels

    from .distributions import PAIR_KEYS

    path, beta = drawing.check("pairs"), beta or DEFAULT_BETA
    with ctx.obj.read_store() as connection:
        table = query_pairs(connection, beta, add_radius(by), selection)
        facts = list_facts(connection, selection, table)
    matrix = Matrix(
        *LABEL_KEYS, "bug_fraction", "source label", "target label", "bugs / successes", 0.0, 1.0,
        sort_labels({row[key] for row in table.rows for key in LABEL_KEYS}),
    )  # fmt: skip
    sheet = drawing.sheet(f"Bug fraction by label pair, β = {beta:g}", facts)
    figure = draw_matrices(table, matrix, sheet)
    drawing.save(figure, path, table.rows, [*table.keys, *PAIR_KEYS])
    note_table(table, selection)


@with_groups
def agreement(ctx: typer.Context, *, ensemble: options.Ensemble = None, drawing: Drawing) -> None:
    """Draw how often two members of an ensemble predict the same label on clean images.

    Example: jsdelta plot agreement -o agreement.pdf
    """
    from jsdelta_db.plots.heat_maps import Matrix, draw_matrices
    from jsdelta_db.queries.agreement import AGREEMENT_KEYS, query_agreement
    from jsdelta_db.queries.grouping import Table

    path = drawing.check("agreement")
    with ctx.obj.read_store() as connection:
        rows = query_agreement(connection, ensemble)
    if not rows:
        raise NothingToDoError("no ensemble has a stored agreement; run jsdelta train --seed 0")
    lowest = min(row["agreement"] for row in rows)
    low = int(lowest * 20) / 20  # a round number of the scale
    matrix = Matrix(
        "model", "other", "agreement", "member", "", "same label", min(low, 0.95), 1.0, across=("ensemble",)
    )
    sheet = drawing.sheet("Agreement on clean images", ["share of images with the same predicted label"])
    figure = draw_matrices(Table(("ensemble",), rows, {}, ""), matrix, sheet)
    drawing.save(figure, path, rows, AGREEMENT_KEYS)
