"""Figure of constructed images beside their originals: a column per image, a row per stage."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from jsdelta_db.plots.display import QUIET_COLOR, Display

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Inches.
CELL, GAP, ROW_GAP, MARGIN, HEAD, FOOT = 0.95, 0.08, 0.3, 0.2, 0.75, 0.22
SIDE = 1.45  # the headings, left of the rows
LONGEST_LABEL, LONGEST_ASIDE, LETTERS_AN_INCH = 11, 19, 11.0


@dataclass(frozen=True, slots=True)
class Cell:
    """An image ``(c, h, w)`` in [0, 1], or the change between two.

    Attributes:
        label: above it.
        aside: second line of the row's heading, the same in each column.
    """

    pixels: NDArray[np.floating]
    label: str
    aside: str = ""
    is_change: bool = False


@dataclass(frozen=True, slots=True)
class Column:
    """One image by stage: ``original``, ``start``, ``made``, …; the same stages in each column."""

    name: str
    cells: dict[str, Cell]


def draw_grid(columns: Sequence[Column], *, title: str) -> "Figure":
    """Draw one column per image and one row per stage; all images are shown at one contrast.

    Args:
        columns: at least one.
        title: the data set's name.
    """
    from matplotlib.figure import Figure  # without pyplot: no global state, no display

    stages, display = list(columns[0].cells), _choose_display(columns)
    width = MARGIN * 2 + SIDE + len(columns) * (CELL + GAP)
    width = max(width, MARGIN * 2 + len(title) / LETTERS_AN_INCH)
    height = HEAD + len(stages) * (CELL + ROW_GAP) + FOOT
    figure = Figure(figsize=(width, height))
    figure.text(MARGIN / width, 1 - 0.3 / height, title, fontsize=11, weight="bold")
    for row, stage in enumerate(stages):
        top = HEAD + row * (CELL + ROW_GAP)
        heading, aside = stage, columns[0].cells[stage].aside
        if columns[0].cells[stage].is_change:
            heading, aside = f"change × {display.magnification}", "mid-grey: none"
        middle = 1 - (top + CELL / 2) / height
        figure.text(MARGIN / width, middle, _shorten(heading), fontsize=9, va="bottom", weight="bold")
        figure.text(MARGIN / width, middle, _shorten(aside), fontsize=9, va="top", color=QUIET_COLOR)
        for position, column in enumerate(columns):
            left = MARGIN + SIDE + position * (CELL + GAP)
            bottom = 1 - (top + CELL) / height
            panel = figure.add_axes((left / width, bottom, CELL / width, CELL / height))
            _draw_cell(panel, column.cells[stage], display)
            if row == len(stages) - 1:
                panel.text(
                    0.5, -0.08, column.name, transform=panel.transAxes, fontsize=7, ha="center", va="top",
                    color=QUIET_COLOR,
                )  # fmt: skip
    if display.contrast > 1.0:
        figure.text(
            1 - MARGIN / width, 0.1 / height, f"contrast × {display.contrast:.1f}, all images",
            fontsize=7, ha="right", color=QUIET_COLOR,
        )  # fmt: skip
    return figure


def _shorten(text: str) -> str:
    return text if len(text) <= LONGEST_ASIDE else f"{text[: LONGEST_ASIDE - 1]}…"


def _draw_cell(panel: "Axes", cell: Cell, display: Display) -> None:
    shown = display.change(cell.pixels.astype(np.float64)) if cell.is_change else display.image(cell.pixels)
    panel.imshow(np.clip(shown, 0.0, 1.0), interpolation="nearest")
    panel.set_axis_off()
    panel.set_title(cell.label[:LONGEST_LABEL], fontsize=9, pad=3, weight="bold")


def _choose_display(columns: Sequence[Column]) -> Display:
    """Return the display of all cells of a figure."""
    cells = [cell for column in columns for cell in column.cells.values()]
    return Display.of(
        [cell.pixels for cell in cells if not cell.is_change],
        [cell.pixels for cell in cells if cell.is_change],
    )
