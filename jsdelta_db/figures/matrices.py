"""Matrices: bug fractions by label pair, and the agreement of an ensemble's members."""

from collections.abc import Sequence

from jsdelta_db.config.evaluation import DEFAULT_BETA
from jsdelta_db.errors import NothingToDoError
from jsdelta_db.figures.drawn import Drawn, Setting, add_radius, describe_table
from jsdelta_db.plots.heat_maps import Matrix, draw_matrices
from jsdelta_db.queries.agreement import query_agreement
from jsdelta_db.queries.grouping import LABEL_KEYS, Table
from jsdelta_db.queries.pairs import query_pairs, sort_labels
from jsdelta_db.queries.selection import Selection
from jsdelta_db.store.reading import Reader


def pairs(
    reader: Reader,
    selection: Selection,
    by: Sequence[str] = (),
    beta: float = DEFAULT_BETA,
    setting: Setting = Setting(),  # noqa: B008 frozen
) -> Drawn[Table]:
    """Draw the bug fraction of each label pair: a column for each ε, a row for each group."""
    table = query_pairs(reader, beta, add_radius(by), selection)
    facts = describe_table(reader, selection, table)
    matrix = Matrix(
        *LABEL_KEYS, "bug_fraction", "source label", "target label", "bugs / successes", 0.0, 1.0,
        sort_labels({row[key] for row in table.rows for key in LABEL_KEYS}),
    )  # fmt: skip
    sheet = setting.sheet(f"Bug fraction by label pair, β = {beta:g}", facts)
    return Drawn(draw_matrices(table, matrix, sheet), table)


def agreement(
    reader: Reader,
    ensemble: str | None = None,
    setting: Setting = Setting(),  # noqa: B008 frozen
) -> Drawn[Table]:
    """Draw how often two members of an ensemble predict the same label on clean images.

    Raises:
        NothingToDoError: no ensemble has a stored agreement.
    """
    rows = query_agreement(reader, ensemble)
    if not rows:
        raise NothingToDoError("no ensemble has a stored agreement; run jsdelta train --seed 0")
    lowest = min(row["agreement"] for row in rows)
    low = int(lowest * 20) / 20  # a round number of the scale
    matrix = Matrix(
        "model", "other", "agreement", "member", "", "same label", min(low, 0.95), 1.0, across=("ensemble",)
    )
    sheet = setting.sheet("Agreement on clean images", ["share of images with the same predicted label"])
    table = Table(("ensemble",), rows, {}, "")
    return Drawn(draw_matrices(table, matrix, sheet), table)
