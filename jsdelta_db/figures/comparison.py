"""Comparisons drawn: the difference of each row, with its interval and a line at no difference."""

from dataclasses import replace

from jsdelta_db.config.eps import format_eps
from jsdelta_db.errors import NothingToDoError
from jsdelta_db.figures.drawn import Drawn, Setting
from jsdelta_db.plots.forest import draw_forest
from jsdelta_db.queries.captions import describe
from jsdelta_db.queries.comparison import Comparison, Request, compare
from jsdelta_db.queries.selection import Row, Selection, list_evaluations
from jsdelta_db.store.reading import Reader

DIFFERENCES = {
    "fraction": ("fraction_difference", "difference of bug fractions"),
    "rate": ("rate_difference", "difference of bug rates"),
    "non-bug-rate": ("non_bug_rate_difference", "difference of non-bug rates"),
    "equal-success": ("equal_success_difference", "difference at equal success"),
}


def draw_comparison(
    reader: Reader,
    request: Request,
    selection: Selection,
    setting: Setting = Setting(),  # noqa: B008 frozen
) -> Drawn[Comparison]:
    """Draw the differences of ``query compare``, a row of the figure for each of its rows.

    Raises:
        NothingToDoError: no attacks match.
    """
    table = compare(reader, request, selection)
    if not table.rows:
        raise NothingToDoError("no attacks can be compared, so there is nothing to draw; see query compare")
    key, name = DIFFERENCES[request.quantity]
    rows = [
        {**row, "label": _label(row, table), "value": row[key], "low": row[f"{key}_low"],
         "high": row[f"{key}_high"]}
        for row in table.rows
    ]  # fmt: skip
    betas = ", ".join(f"{beta:g}" for beta in request.betas)
    facts = describe(list_evaluations(reader, selection))
    others = dict.fromkeys(row["b"] for row in table.rows)
    title = f"Difference to {next(iter(others))}" if len(others) == 1 else "Differences A − B"
    sheet = setting.sheet(f"{title}, β = {betas}", facts)
    lanes = replace(table, rows=rows, keys=())
    return Drawn(draw_forest(lanes, sheet, name=name), table)


def _label(row: Row, table: Comparison) -> str:
    """Return the name of a lane: the sides, ε, and what else tells the rows apart."""
    several = [key for key in table.keys if len({each[key] for each in table.rows}) > 1 and key != "eps"]
    norm = row.get("norm", table.norm)
    sides = row["a"] if len({each["b"] for each in table.rows}) == 1 else f"{row['a']} − {row['b']}"
    radius = [format_eps(row["eps"], norm)] if "eps" in row else []
    betas = [f"β = {row['beta']:g}"] if len({each["beta"] for each in table.rows}) > 1 else []
    return ", ".join([sides, *radius, *(str(row[key]) for key in several), *betas])
