"""Figures of matrices: bug fractions by label pair, and how far models agree."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from jsdelta_db.plots.panels import OF_RADIUS, Grouped, Panel, Sheet, divide, draw_sheet
from jsdelta_db.plots.style import CM, SMALL, fit, measure, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLORS = "Greys"  # dark is much: on paper, on a screen and to everybody
EMPTY = "////"  # a pair without a value
MOST_TICKS = 20  # names along an axis
SMALLEST_CELL = 0.47  # cm, that a number is written into


class Matrix(NamedTuple):
    """What a matrix shows.

    Attributes:
        row, column, value: keys of the rows.
        row_name, column_name, value_name: on the figure.
        low, high: values that are white and black.
        order: names along both axes, in order; empty if each panel has its own, those of its rows.
        across: facts that make columns.
    """

    row: str
    column: str
    value: str
    row_name: str
    column_name: str
    value_name: str
    low: float
    high: float
    order: Sequence[str] = ()
    across: Sequence[str] = OF_RADIUS


def draw_matrices(table: Grouped, matrix: Matrix, sheet: Sheet) -> "Figure":
    """Draw a matrix for each ε and group; numbers stand in the cells where these are large enough."""
    panels = divide(table, across=matrix.across, without=(matrix.row, matrix.column))
    names = (matrix.column_name, matrix.row_name)
    with styled():
        figure, drawn = draw_sheet(sheet, panels, 0.0, names=names, shared=bool(matrix.order))
        for panel, axes in drawn:
            image = _draw_matrix(axes, panel, matrix)
            _name_cells(axes, _order(panel, matrix))
        bar = figure.colorbar(image, ax=[axes for _, axes in drawn], shrink=0.8, aspect=25, pad=0.02)
        bar.set_label(matrix.value_name)
        bar.outline.set_linewidth(0.4)
        figure.draw_without_rendering()  # places the cells, whose size decides on numbers
        for panel, axes in drawn:
            _write_numbers(axes, panel, matrix, figure.dpi)
    return figure


def _fill(panel: Panel, matrix: Matrix) -> NDArray[np.float64]:
    """Return a panel's values, NaN where there are none."""
    place = {name: number for number, name in enumerate(_order(panel, matrix))}
    values = np.full((len(place), len(place)), np.nan)
    for row in panel.rows:
        if row[matrix.value] is not None:
            values[place[row[matrix.row]], place[row[matrix.column]]] = row[matrix.value]
    return values


def _draw_matrix(axes: "Axes", panel: Panel, matrix: Matrix) -> Any:  # noqa: ANN401 matplotlib's
    from matplotlib.patches import Rectangle

    values = _fill(panel, matrix)
    image = axes.imshow(
        values, cmap=COLORS, vmin=matrix.low, vmax=matrix.high, aspect="equal", interpolation="nearest"
    )
    for row, column in np.argwhere(np.isnan(values)):
        cell = Rectangle(
            (column - 0.5, row - 0.5), 1, 1, fill=False, hatch=EMPTY, edgecolor="#c0c0c0", linewidth=0
        )
        axes.add_patch(cell)
    axes.spines[:].set_visible(True)
    return image


def _order(panel: Panel, matrix: Matrix) -> Sequence[str]:
    return matrix.order or list(dict.fromkeys(row[matrix.row] for row in panel.rows))


def _name_cells(axes: "Axes", order: Sequence[str]) -> None:
    """Name the rows and columns of a panel; of very many every n-th."""
    step = -(-len(order) // MOST_TICKS)
    places = range(0, len(order), step)
    names = [fit(order[place], 1.6, SMALL) for place in places]
    axes.set_yticks(list(places), names)
    is_long = any(measure(name, SMALL) > 0.45 for name in names)
    axes.set_xticks(list(places), names, rotation=90 if is_long else 0)


def _write_numbers(axes: "Axes", panel: Panel, matrix: Matrix, dots_an_inch: float) -> None:
    """Write values into cells that are large enough, white on dark ones."""
    cell = axes.get_window_extent().width / dots_an_inch / CM / len(_order(panel, matrix))
    if cell < SMALLEST_CELL:
        return
    for (row, column), value in np.ndenumerate(_fill(panel, matrix)):
        if not np.isnan(value):
            share = (value - matrix.low) / max(matrix.high - matrix.low, 1e-9)
            text = f"{value:.2f}".replace("0.", ".", 1) if value < 0.995 else "1"
            axes.text(
                column, row, text, ha="center", va="center", fontsize=SMALL,
                color="white" if share > 0.55 else "black",
            )  # fmt: skip
