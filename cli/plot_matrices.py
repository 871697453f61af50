"""``jsdelta plot pairs|agreement``: matrices of label pairs and of models."""

import typer

from . import options, selecting
from .distributions import split_names
from .groups import with_groups
from .plot import OneBeta, note_table
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
    from jsdelta_db.figures import matrices

    path, setting = drawing.check("pairs")
    with ctx.obj.read_store() as connection:
        drawn = matrices.pairs(connection, selection, split_names(by), beta or DEFAULT_BETA, setting)
    drawing.save(drawn, path)
    note_table(drawn.table, selection)


@with_groups
def agreement(ctx: typer.Context, *, ensemble: options.Ensemble = None, drawing: Drawing) -> None:
    """Draw how often two members of an ensemble predict the same label on clean images.

    Example: jsdelta plot agreement -o agreement.pdf
    """
    from jsdelta_db.figures import matrices

    path, setting = drawing.check("agreement")
    with ctx.obj.read_store() as connection:
        drawn = matrices.agreement(connection, ensemble, setting)
    drawing.save(drawn, path)
