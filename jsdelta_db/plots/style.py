"""Style of figures for print: sizes, fonts, and colours that a grey copy and the colour-blind tell apart."""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

from jsdelta_db.errors import UsageError
from jsdelta_db.runtime.escaping import escape

CM = 1 / 2.54  # in inches
WIDTHS = {"column": 8.0, "page": 17.0}  # cm
NARROWEST, WIDEST = 5.0, 100.0  # cm
TITLE, TEXT, SMALL = 8.0, 7.0, 6.5  # points; nothing on a figure is smaller
LONGEST = 300  # letters of a name, before it is cut by its width

# From dark to light, so that a grey print keeps their order; after Okabe and Ito.
COLORS = ("#000000", "#00568c", "#b84a00", "#4a9ad4", "#dca000", "#b8b8b8")
DASHES = ("-", (0, (5, 1.5)), (0, (5, 1.5, 1, 1.5)), (0, (1, 1.2)), (0, (3, 1)))
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
FILL, FILL_OPEN = "#4a7fb0", "#c9d8e6"  # bars, and bars without an upper end
QUIET, MARK = "#5a5a5a", "#b84a00"  # what stands beside the data; thresholds
BAND_ALPHA = 0.22
SETTINGS: dict[str, Any] = {
    "font.family": "sans-serif", "font.sans-serif": ["DejaVu Sans"], "font.size": TEXT,
    "axes.titlesize": TEXT, "axes.labelsize": TEXT, "xtick.labelsize": SMALL, "ytick.labelsize": SMALL,
    "legend.fontsize": SMALL, "legend.frameon": False, "legend.handlelength": 2.4,
    "axes.linewidth": 0.6, "xtick.major.width": 0.6, "ytick.major.width": 0.6, "xtick.minor.width": 0.4,
    "xtick.major.size": 2.5, "ytick.major.size": 2.5, "xtick.minor.size": 1.5, "axes.titlepad": 3.0,
    "axes.labelpad": 2.0, "xtick.major.pad": 2.0, "ytick.major.pad": 2.0,
    "axes.spines.top": False, "axes.spines.right": False, "lines.linewidth": 1.1, "lines.markersize": 3.2,
    "hatch.linewidth": 0.5,
    # Names are text, whatever dollars and underscores they have.
    "text.parse_math": False, "axes.formatter.use_mathtext": False, "axes.unicode_minus": True,
    # TrueType, as journals ask for; and equal bytes for equal figures.
    "pdf.fonttype": 42, "ps.fonttype": 42, "svg.fonttype": "path", "svg.hashsalt": "jsdelta",
}  # fmt: skip


@contextmanager
def styled() -> Iterator[None]:
    """Draw, and save, in this style, whatever the user's own settings are.

    A letter that the font lacks is drawn as a box, without a warning.
    """
    import matplotlib

    defaults: Any = matplotlib.rcParamsDefault  # typed by the name of each setting
    settings: Any = {key: defaults[key] for key in defaults if not key.startswith("backend")} | SETTINGS
    with matplotlib.rc_context(settings), _any_letters():
        yield


@contextmanager
def _any_letters() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        warnings.filterwarnings("ignore", message="Matplotlib currently does not support .* natively")
        yield


def parse_width(text: str) -> float:
    """Return the width of a figure in cm: ``column``, ``page`` or a number.

    Raises:
        UsageError: anything else, or a number out of range.
    """
    if text in WIDTHS:
        return WIDTHS[text]
    valid = f"must be column (8 cm), page (17 cm) or a number of cm from {NARROWEST:g} to {WIDEST:g}"
    try:
        width = float(text)
    except ValueError:
        raise UsageError(f"--width {text!r} is not a width: {valid}") from None
    if not NARROWEST <= width <= WIDEST:
        raise UsageError(f"--width {text} is out of range: {valid}")
    return width


def line_style(number: int) -> dict[str, Any]:
    """Return how the n-th line is drawn: its colour, dashes and marker all differ from its neighbours'."""
    return {
        "color": COLORS[number % len(COLORS)],
        "linestyle": DASHES[number % len(DASHES)],
        "marker": MARKERS[number % len(MARKERS)],
    }


def fit(text: str, width: float, size: float = TEXT, weight: str = "normal") -> str:
    """Return a name in printable letters, its middle left out where it is wider than some cm."""
    text = escape(text, LONGEST)
    if measure(text, size, weight) <= width:
        return text
    for kept in range(len(text) - 1, 1, -1):
        tail = kept // 3
        shorter = f"{text[: kept - tail].rstrip()}…{text[len(text) - tail :].lstrip()}"
        if measure(shorter, size, weight) <= width:
            return shorter
    return "…"


def wrap(words: Sequence[str], width: float, size: float = SMALL, joint: str = " · ") -> list[str]:
    """Return lines of some cm from pieces that stay whole, each cut where it is too wide alone."""
    lines: list[str] = []
    for word in words:
        longer = f"{lines[-1]}{joint}{word}" if lines else word
        if lines and measure(longer, size) <= width:
            lines[-1] = longer
        else:
            lines.append(fit(word, width, size))
    return lines


@lru_cache(maxsize=1 << 12)
def measure(text: str, size: float, weight: str = "normal") -> float:
    """Return the width of a text, in cm."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import TextToPath

    with _any_letters():
        font = FontProperties(family="DejaVu Sans", size=size, weight=weight)
        width, _, _ = TextToPath().get_text_width_height_descent(text, font, ismath=False)
    return float(width) / 72 / CM
