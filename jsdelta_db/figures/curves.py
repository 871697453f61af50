"""Curves and histograms: JSΔ and bug fractions along an axis, panels by ε and by group."""

from collections.abc import Sequence

from jsdelta_db.config.checks import check_choice
from jsdelta_db.config.evaluation import DEFAULT_BETA, DEFAULT_BETAS
from jsdelta_db.config.measures import Measuring
from jsdelta_db.errors import UsageError
from jsdelta_db.figures.drawn import Drawn, Setting, add_radius, describe_table
from jsdelta_db.plots.curves import Axis, draw_curves
from jsdelta_db.plots.histogram import draw_histogram
from jsdelta_db.queries.bugs import query_bugs
from jsdelta_db.queries.distributions import query_below, query_histogram
from jsdelta_db.queries.grouping import Table
from jsdelta_db.queries.selection import Row, Selection
from jsdelta_db.store.reading import Reader

BINS = 40  # between JSΔ = 0 and 1
BELOW_POINTS = tuple(step / 100 for step in range(151))
LOWEST, HIGHEST, STEPS = 0.005, 1.0, 40  # of a curve over β, in equal steps of its logarithm
QUANTITIES = {"fraction": "bug_fraction", "rate": "bug_rate"}


def histogram(
    reader: Reader,
    selection: Selection,
    by: Sequence[str] = (),
    betas: Sequence[float] = DEFAULT_BETAS,
    bins: int = BINS,
    setting: Setting = Setting(),  # noqa: B008 frozen
) -> Drawn[Table]:
    """Draw the JSΔ of successful samples: a column for each ε, a row for each group, each β marked."""
    table = query_histogram(reader, bins, betas, add_radius(by), selection)
    facts = describe_table(reader, selection, table)
    return Drawn(draw_histogram(table, betas, setting.sheet("JSΔ of successful samples", facts)), table)


def ecdf(
    reader: Reader,
    selection: Selection,
    by: Sequence[str] = (),
    setting: Setting = Setting(),  # noqa: B008 frozen
) -> Drawn[Table]:
    """Draw the share of successful samples below each JSΔ, a line for each group, with its interval."""
    table = query_below(reader, BELOW_POINTS, add_radius(by), selection)
    facts = describe_table(reader, selection, table)
    axis = Axis("js_delta", "share_below", "JSΔ", "share of successes below")
    return Drawn(draw_curves(table, axis, setting.sheet("JSΔ of successful samples", facts)), table)


def curve(
    reader: Reader,
    selection: Selection,
    by: Sequence[str] = (),
    betas: Sequence[float] = DEFAULT_BETAS,
    measuring: Measuring = Measuring(),  # noqa: B008 frozen
    setting: Setting = Setting(),  # noqa: B008 frozen
) -> Drawn[Table]:
    """Draw the bug fraction against β, a line for each group, with its interval; the given β are marked."""
    steps = (LOWEST * (HIGHEST / LOWEST) ** (step / STEPS) for step in range(STEPS + 1))
    points = sorted({*(round(point, 6) for point in steps), *betas})
    table = query_bugs(reader, points, add_radius(by), selection, measuring=measuring)
    facts = describe_table(reader, selection, table)
    marked = tuple(betas)
    axis = Axis("beta", "bug_fraction", "threshold β", "bugs / successes", is_log=True, marked=marked)
    return Drawn(draw_curves(table, axis, setting.sheet("Bug fraction by threshold", facts)), table)


def sweep(
    reader: Reader,
    selection: Selection,
    over: str = "eps",
    by: Sequence[str] = (),
    beta: float = DEFAULT_BETA,
    quantity: str = "fraction",
    measuring: Measuring = Measuring(),  # noqa: B008 frozen
    setting: Setting = Setting(),  # noqa: B008 frozen
) -> Drawn[Table]:
    """Draw the bug fraction, or the rate, against ε or another number, a line for each group.

    Raises:
        UsageError: values along the axis that are no numbers, or ε of several norms.
    """
    check_choice("quantity", quantity, tuple(QUANTITIES))
    table = query_bugs(reader, [beta], add_radius(by, over), selection, measuring=measuring)
    facts = describe_table(reader, selection, table)
    _check_numbers(table.rows, over)
    if over == "eps" and not table.norm:
        raise UsageError("ε of several norms has no common axis; choose with --norm linf")
    is_levels = over == "eps" and table.norm == "linf"
    name = "ε in 1/255" if is_levels else "ε" if over == "eps" else over.replace("_", " ")
    below = "successes" if quantity == "fraction" else "attempts"
    axis = Axis(
        over, QUANTITIES[quantity], name, f"bugs / {below}", unit=255.0 if is_levels else 1.0, is_full=False
    )
    return Drawn(draw_curves(table, axis, setting.sheet(f"Bug {quantity} at β = {beta:g}", facts)), table)


def _check_numbers(rows: Sequence[Row], key: str) -> None:
    """Check that a key's values can stand along an axis.

    Raises:
        UsageError: one is no number.
    """
    for row in rows:
        if isinstance(row[key], bool) or not isinstance(row[key], int | float):
            raise UsageError(
                f"--over {key} has the value {row[key]!r}, which is no number; choose with --where what has "
                f"one, such as {key}!=none"
            )
