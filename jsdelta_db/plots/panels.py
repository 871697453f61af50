"""Panels: rows divided by ε and by other facts, on a sheet of a width in cm, with shared axes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from jsdelta_db.config.eps import format_eps
from jsdelta_db.plots.style import CM, QUIET, SMALL, TEXT, TITLE, fit, measure, wrap

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Row = Mapping[str, Any]
OF_RADIUS = ("norm", "eps")
MARGIN = 0.1  # cm, around the sheet
LINE = 0.034  # cm of height for each point of a font's size
BESIDE_SQUARES = 2.6  # cm: names, and a scale of colours
NARROWEST_PANEL = 3.4  # cm; panels that may go below each other are no narrower


class Grouped(Protocol):
    """Rows by group, as queries return them; ``norm`` is of every ε, "" if it is among the keys."""

    @property
    def keys(self) -> Sequence[str]: ...  # noqa: D102 see above
    @property
    def rows(self) -> Sequence[Row]: ...  # noqa: D102
    @property
    def norm(self) -> str: ...  # noqa: D102


@dataclass(frozen=True, slots=True)
class Sheet:
    """What stands on a figure beside its data.

    Attributes:
        width: in cm.
        title: "" for none.
        facts: what was attacked and how, for the subtitle.
    """

    width: float = 8.0
    title: str = ""
    facts: Sequence[str] = ()


@dataclass(slots=True)
class Panel:
    """Rows of one panel.

    Attributes:
        head: its ε.
        side: its other facts; "" without any.
        lines: rows by the name of their line, the same names in all panels.
    """

    head: str
    side: str
    lines: dict[str, list[Row]]

    @property
    def rows(self) -> list[Row]:
        """The rows of all lines."""
        return [row for rows in self.lines.values() for row in rows]


def divide(
    table: Grouped,
    *,
    has_lines: bool = False,
    along: str | None = None,
    across: Sequence[str] = OF_RADIUS,
    without: Sequence[str] = (),
) -> list[list[Panel]]:
    """Return panels: columns by ε, rows by other facts; the first other fact, or ε alone, may make lines.

    Args:
        has_lines: whether a panel may hold several groups.
        along: the fact that the horizontal axis shows.
        across: the facts that make columns.
        without: keys that make no panels.
    """
    rows, norm = table.rows, table.norm
    keys = [key for key in table.keys if key not in without]
    radius = [key for key in across if key in keys and key != along]
    if len({row.get("norm") for row in rows}) == 1:
        radius = [key for key in radius if key != "norm"]
    others = [key for key in keys if key not in across and key not in (along, "norm")]
    line_keys = (others[:1] or radius) if has_lines else []
    radius = [key for key in radius if key not in line_keys]
    side_keys = [key for key in others if key not in line_keys]
    heads, sides, lines = (_list_names(rows, some, norm) for some in (radius, side_keys, line_keys))
    panels = [[Panel(head, side, {name: [] for name in lines}) for head in heads] for side in sides]
    places = {(panel.head, panel.side): panel for line in panels for panel in line}
    for row in rows:
        panel = places[_name(row, radius, norm), _name(row, side_keys, norm)]
        panel.lines[_name(row, line_keys, norm)].append(row)
    return panels


def _list_names(rows: Sequence[Row], keys: Sequence[str], norm: str) -> list[str]:
    """Return the names that some facts make, in the order of the facts."""
    ordered = sorted(rows, key=lambda row: [_rank(row[key]) for key in keys])
    return list(dict.fromkeys(_name(row, keys, norm) for row in ordered))


def _rank(value: object) -> tuple[int, float, str]:
    """Return what sorts facts: None first, then numbers, then text."""
    if value is None:
        return (0, 0.0, "")
    return (1, float(value), "") if isinstance(value, int | float) else (2, 0.0, str(value))


def _name(row: Row, keys: Sequence[str], norm: str) -> str:
    """Return what a panel or line is called: values, with their facts' names where they are no words."""
    named = []
    for key in keys:
        value = row[key]
        if key == "eps":
            named.append(f"ε = {format_eps(value, row.get('norm', norm))}")
        elif isinstance(value, str):
            named.append(f"{value} split" if key == "split" else value)
        else:
            shown = "none" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
            named.append(f"{key.replace('_', ' ')} {shown}")
    return ", ".join(named)


def draw_sheet(
    sheet: Sheet,
    panels: list[list[Panel]],
    height: float,
    *,
    names: tuple[str, str] = ("", ""),
    legend: int = 0,
    shared: bool = True,
) -> "tuple[Figure, list[tuple[Panel, Axes]]]":
    """Return a figure with a head, and each panel with its axes.

    Args:
        panels: rows of panels; a single row goes on below itself where it is too wide.
        height: of a panel, in cm; 0 for one that is as high as it is wide.
        names: of the horizontal and the vertical axis.
        legend: lines that :func:`add_legend` will need.
        shared: whether all panels have the same axes.
    """
    from matplotlib.figure import Figure  # without pyplot: no global state, no display

    laid_out = break_line(panels, sheet.width)
    n_columns = max(map(len, laid_out))
    height = height or (sheet.width - BESIDE_SQUARES) / n_columns
    title = [fit(sheet.title, sheet.width - 2 * MARGIN, TITLE, "bold")] if sheet.title else []
    facts = wrap(sheet.facts, sheet.width - 2 * MARGIN)
    top = LINE * 1.35 * (TITLE * len(title) + SMALL * len(facts)) + MARGIN
    foot = LINE * (1.45 * SMALL * legend + (1.5 * TEXT if names[0] else 0.0)) + MARGIN
    has_ticks_each = not shared or len(laid_out) == 1
    whole = top + foot + len(laid_out) * (height + 0.4 + 0.35 * has_ticks_each) + 0.35 + 0.15 * bool(top)
    figure = Figure(figsize=(sheet.width * CM, whole * CM))
    edge, inner = MARGIN / sheet.width, 1 - (top + foot) / whole
    figure.set_layout_engine(
        "constrained", rect=(edge, foot / whole, 1 - 2 * edge, inner), w_pad=0.03, h_pad=0.03, wspace=0.02,
        hspace=0.03,
    )  # fmt: skip
    _write_head(figure, title, facts, whole)
    if names[0]:
        above = (foot - LINE * 0.35 * TEXT) / whole
        figure.text(0.5, above, names[0], fontsize=TEXT, ha="center", va="top")
    if names[1]:
        figure.supylabel(names[1], fontsize=TEXT, y=foot / whole + inner / 2)
    axes = figure.subplots(len(laid_out), n_columns, sharex=shared, sharey=shared, squeeze=False)
    drawn = _name_panels(axes, laid_out, (sheet.width - 1.2) / n_columns, height)
    return figure, drawn


def _write_head(figure: "Figure", title: Sequence[str], facts: Sequence[str], height: float) -> None:
    """Write title and subtitle at the top of a figure of some cm."""
    left, down = MARGIN * CM / figure.get_figwidth(), MARGIN
    for lines, size, style in ((title, TITLE, {"weight": "bold"}), (facts, SMALL, {"color": QUIET})):
        for text in lines:
            figure.text(left, 1 - down / height, text, fontsize=size, va="top", **style)  # type: ignore[arg-type]
            down += LINE * 1.35 * size


def _name_panels(
    axes: Any,  # noqa: ANN401 an array of axes
    laid_out: list[list[Panel]],
    width: float,
    height: float,
) -> "list[tuple[Panel, Axes]]":
    """Return each panel with its axes: its ε above, once a column, its other facts right of the row."""
    drawn: list[tuple[Panel, Axes]] = []
    for line, (panels, places) in enumerate(zip(laid_out, axes, strict=True)):
        for column, (panel, place) in enumerate(zip(panels, places, strict=False)):
            drawn.append((panel, place))
            is_new = line == 0 or laid_out[line - 1][column].head != panel.head
            if panel.head and is_new:
                place.set_title(fit(panel.head, width))
        for column in range(len(panels), len(places)):  # the last row of a broken line
            places[column].set_visible(False)
            axes[line - 1][column].tick_params(labelbottom=True)
        if panels[-1].side:
            places[-1].text(
                1.05, 0.5, fit(panels[-1].side, height), transform=places[-1].transAxes, rotation=270,
                va="center", ha="left",
            )  # fmt: skip
    return drawn


def break_line(panels: list[list[Panel]], width: float) -> list[list[Panel]]:
    """Return panels of a single row in rows of wide ones; several rows stay as they are."""
    most = max(1, int(width // NARROWEST_PANEL))
    if len(panels) > 1 or len(panels[0]) <= most:
        return panels
    (line,) = panels
    n_rows = -(-len(line) // most)
    size = -(-len(line) // n_rows)
    return [line[start : start + size] for start in range(0, len(line), size)]


def plan_legend(names: Sequence[str], width: float) -> tuple[list[str], int]:
    """Return names as a legend shows them, and in how many columns."""
    room = width - 2 * MARGIN
    handle = 1.1  # cm: the line, and the gap to the next
    shown = [fit(name, room - handle, SMALL) for name in names]
    widest = max((measure(name, SMALL) + handle for name in shown), default=room)
    return shown, max(1, min(len(shown), int(room // widest)))


def add_legend(figure: "Figure", handles: Sequence[Any], names: Sequence[str], columns: int) -> None:
    """Put a legend at the foot of a sheet."""
    figure.legend(
        handles, names, loc="lower center", ncols=columns, borderaxespad=0.2, columnspacing=1.0,
        handletextpad=0.5, labelspacing=0.3,
    )  # fmt: skip
