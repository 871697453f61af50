"""Figure of estimates below each other: each with its interval, and a line at a value that means nothing."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from jsdelta_db.plots.panels import Grouped, Row, Sheet, divide, draw_sheet
from jsdelta_db.plots.style import COLORS, MARKERS, QUIET, SMALL, fit, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LANE = 0.42  # cm, of an estimate
LONGEST_NAME = 0.35  # of the sheet's width


def draw_forest(table: Grouped, sheet: Sheet, *, name: str, zero: float = 0.0) -> "Figure":
    """Draw rows with ``label``, ``value``, ``low`` and ``high`` (None where unknown), the first on top.

    Args:
        name: of the values.
        zero: where the line of no effect stands.
    """
    labels = list(dict.fromkeys(row["label"] for row in table.rows))
    panels = divide(table)
    with styled():
        figure, drawn = draw_sheet(sheet, panels, LANE * len(labels) + 0.3, names=(name, ""))
        for panel, axes in drawn:
            _draw_lanes(axes, panel.rows, labels, zero)
        first = drawn[0][1]
        first.set_yticks(
            range(len(labels)), [fit(each, sheet.width * LONGEST_NAME, SMALL) for each in labels]
        )
        first.set_ylim(len(labels) - 0.5, -0.5)
    return figure


def _draw_lanes(axes: "Axes", rows: Sequence[Row], labels: Sequence[str], zero: float) -> None:
    axes.axvline(zero, color=QUIET, linewidth=0.7, linestyle="--", zorder=0)
    axes.tick_params(axis="y", length=0)
    for row in rows:
        lane = labels.index(row["label"])
        if row["value"] is None:
            continue
        if row["low"] is not None and row["high"] is not None:
            axes.plot([row["low"], row["high"]], [lane, lane], color=COLORS[1], linewidth=1.2)
        axes.plot([row["value"]], [lane], marker=MARKERS[1], color=COLORS[1], markeredgecolor="white")
