"""Histogram figure: the JSΔ of successful samples, a panel for each ε and group, thresholds marked."""

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from jsdelta_db.plots.panels import (
    NARROWEST_PANEL,
    Grouped,
    Panel,
    Row,
    Sheet,
    break_line,
    divide,
    draw_sheet,
)
from jsdelta_db.plots.style import BAND_ALPHA, FILL, FILL_OPEN, MARK, QUIET, SMALL, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

HEIGHT = 2.1  # cm, of a panel
THRESHOLDS = (":", "--", "-.", "-")


def draw_histogram(table: Grouped, betas: Sequence[float], sheet: Sheet) -> "Figure":
    """Draw the rows of ``query histogram``; a bar's area is its share, and the last bar has no upper end."""
    panels = divide(table)
    lows = sorted({row["js_delta_from"] for row in table.rows})
    width = max((high - low for low, high in pairwise(lows)), default=lows[-1] or 1.0)
    last = _find_last(table.rows, lows, width)
    with styled():
        names = ("JSΔ", f"share per {width:.3g}")
        figure, drawn = draw_sheet(sheet, panels, HEIGHT, names=names)
        is_narrow = sheet.width / max(map(len, break_line(panels, sheet.width))) < NARROWEST_PANEL
        for panel, axes in drawn:
            _draw_bars(axes, panel, width, last)
            _mark(axes, panel, betas, is_narrow=is_narrow)
        drawn[0][1].set_xlim(0.0, last + 2 * width)
        drawn[0][1].set_ylim(bottom=0.0)
    return figure


def _find_last(rows: Sequence[Row], lows: Sequence[float], width: float) -> float:
    """Return where the axis ends: at 1, or behind the last bin that anything lies in."""
    used = max((row["js_delta_from"] for row in rows if row["n"]), default=0.0)
    return min(lows[-1], max(1.0, float(used) + width))


def _draw_bars(axes: "Axes", panel: Panel, width: float, last: float) -> None:
    """Draw the bars, with their intervals as a band."""
    rows = [row for row in panel.rows if row["share"] is not None]
    closed = [row for row in rows if row["js_delta_to"] is not None and row["js_delta_from"] < last]
    if closed:
        edges = [row["js_delta_from"] for row in closed] + [closed[-1]["js_delta_to"]]
        axes.stairs([_scale(row, row["share"], width) for row in closed], edges, fill=True, color=FILL)
        bounds = [
            [_scale(row, row[key] if row["n"] else 0.0, width) for row in closed]
            for key in ("share_low", "share_high")
            if all(row["share_low"] is not None or not row["n"] for row in closed)
        ]
        if bounds:
            low, high = ([*values, values[-1]] for values in bounds)
            axes.fill_between(edges, low, high, step="post", color="black", alpha=BAND_ALPHA, linewidth=0)
    beyond = sum(row["n"] for row in rows if row["js_delta_to"] is None or row["js_delta_from"] >= last)
    if beyond:
        share = beyond / rows[0]["n_success"]
        axes.bar(last, share, 2 * width, align="edge", color=FILL_OPEN, hatch="////", linewidth=0.3)


def _scale(row: Row, value: float, width: float) -> float:
    return float(value) * width / float(row["js_delta_to"] - row["js_delta_from"])


def _mark(axes: "Axes", panel: Panel, betas: Sequence[float], *, is_narrow: bool) -> None:
    """Mark each threshold, and write the share of bugs below it; in a narrow panel of the largest alone."""
    rows = panel.rows
    n_success = rows[0]["n_success"] if rows else 0
    said = [f"n={n_success:,}" if is_narrow else f"n = {n_success:,}"]
    for number, beta in enumerate(sorted(betas)):
        style = THRESHOLDS[number % len(THRESHOLDS)]
        axes.axvline(beta, color=MARK, linestyle=style, linewidth=0.5 if is_narrow else 0.8)
        below = sum(row["n"] for row in rows if row["js_delta_from"] < beta)
        if n_success and (beta == max(betas) or not is_narrow):
            said.append(f"{below / n_success:.0%} {'<' if is_narrow else 'below β ='} {beta:g}")
    text = axes.text(
        1.0, 1.0, "\n".join(said), transform=axes.transAxes, ha="right", va="top", fontsize=SMALL,
        color=QUIET, linespacing=1.1,
    )  # fmt: skip
    text.set_in_layout(False)
