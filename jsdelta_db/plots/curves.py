"""Figures of curves: a share for each group against JSΔ, β, or a number that attacks or models differ in."""

from collections.abc import Sequence
from math import log10
from typing import TYPE_CHECKING, Any, NamedTuple

from jsdelta_db.plots.panels import (
    Grouped,
    Row,
    Sheet,
    add_legend,
    divide,
    draw_sheet,
    plan_legend,
)
from jsdelta_db.plots.style import BAND_ALPHA, MARK, line_style, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ALONE, HEIGHT = 4.6, 3.0  # cm: of one panel, and of each of several
MOST_MARKERS = 8  # along a curve
MOST_TICKS = 6  # values of x that are all named, and at which intervals are drawn as lines, too
CLOSEST = 0.35  # powers of ten between two ticks


class Axis(NamedTuple):
    """What a curve runs along, and the share that it shows.

    Attributes:
        x: key of the rows.
        y: key of the share, with ``_low`` and ``_high`` beside it.
        x_name, y_name: on the figure.
        unit: that values of x are multiplied with.
        is_log: whether x is shown on a logarithmic scale.
        marked: values of x with a line across.
        is_full: whether the share's axis reaches 1, whatever the values.
    """

    x: str
    y: str
    x_name: str
    y_name: str
    unit: float = 1.0
    is_log: bool = False
    marked: Sequence[float] = ()
    is_full: bool = True


def draw_curves(table: Grouped, axis: Axis, sheet: Sheet) -> "Figure":
    """Draw a line for each group, with its interval as a band."""
    panels = divide(table, has_lines=True, along=axis.x)
    names = list(panels[0][0].lines)
    is_named = names != [""]
    shown, columns = plan_legend(names, sheet.width)
    with styled():
        legend = -(-len(names) // columns) if is_named else 0
        is_alone = len(panels) * len(panels[0]) == 1
        height = ALONE if is_alone else HEIGHT
        figure, drawn = draw_sheet(sheet, panels, height, names=(axis.x_name, axis.y_name), legend=legend)
        handles: dict[str, Any] = {}
        for panel, axes in drawn:
            for name, of_line in panel.lines.items():
                handles[name] = _draw_line(axes, of_line, axis, names.index(name))
            for value in axis.marked:
                axes.axvline(value, color=MARK, linestyle=":", linewidth=0.7, zorder=0)
        _scale(drawn[0][1], table.rows, axis)
        if is_named:
            add_legend(figure, [handles[name] for name in names], shown, columns)
    return figure


def _draw_line(axes: "Axes", rows: Sequence[Row], axis: Axis, number: int) -> Any:  # noqa: ANN401 matplotlib's
    """Draw one group's line and band; return the line."""
    known = sorted((row for row in rows if row[axis.y] is not None), key=lambda row: float(row[axis.x]))
    style = line_style(number)
    x = [row[axis.x] * axis.unit for row in known]
    # Markers at other places along each line, or they would hide each other.
    step = max(1, len(known) // MOST_MARKERS)
    (line,) = axes.plot(
        x, [row[axis.y] for row in known], **style, markevery=(number * step // 3 % step, step),
        markeredgecolor="white", markeredgewidth=0.3,
    )  # fmt: skip
    bounded = [row for row in known if row[f"{axis.y}_low"] is not None]
    if bounded:
        axes.fill_between(
            [row[axis.x] * axis.unit for row in bounded],
            [row[f"{axis.y}_low"] for row in bounded],
            [row[f"{axis.y}_high"] for row in bounded],
            color=style["color"], alpha=BAND_ALPHA, linewidth=0,
        )  # fmt: skip
    if 0 < len(bounded) <= MOST_TICKS:  # a band of one point would not be seen
        axes.vlines(
            [row[axis.x] * axis.unit for row in bounded],
            [row[f"{axis.y}_low"] for row in bounded],
            [row[f"{axis.y}_high"] for row in bounded],
            color=style["color"], linewidth=0.7,
        )  # fmt: skip
    return line


def _scale(axes: "Axes", rows: Sequence[Row], axis: Axis) -> None:
    """Set the axes that all panels share; few values of x are its ticks."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    highest = max((row[f"{axis.y}_high"] or row[axis.y] or 0.0 for row in rows), default=1.0)
    axes.set_ylim(0.0, 1.02 if axis.is_full else min(1.02, 1.05 * highest) or 1.0)
    values = sorted({float(row[axis.x]) * axis.unit for row in rows})
    if axis.is_log and values[0] > 0.0:
        axes.set_xscale("log")
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.xaxis.set_major_locator(FixedLocator(_choose_ticks(values[0], values[-1], axis.marked)))
    elif axis.x == "js_delta":
        # To where every line has reached 1: JSΔ has no upper bound.
        axes.set_xlim(0.0, max(1.0, *(row[axis.x] for row in rows if (row[axis.y] or 1.0) < 1.0)))
    elif len(values) <= MOST_TICKS:
        axes.xaxis.set_major_locator(FixedLocator(values))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.4g}"))


def _choose_ticks(low: float, high: float, marked: Sequence[float]) -> list[float]:
    """Return ticks of a logarithmic axis: powers of ten, and marks that are far enough from others."""
    ticks: list[float] = []
    for tick in (*(10.0**power for power in range(-6, 3)), *marked):
        if low <= tick <= high and all(abs(log10(tick / other)) > CLOSEST for other in ticks):
            ticks.append(tick)
    return sorted(ticks)
