"""Figures for print: what stands on the page, in which size, and that nothing covers anything else."""

import io
import os
import re
import subprocess
import sys
from itertools import combinations, pairwise

import matplotlib
import numpy as np
import pytest
from matplotlib.text import Text
from PIL import Image

from jsdelta_db.errors import UsageError
from jsdelta_db.plots import style
from jsdelta_db.plots.curves import Axis, draw_curves
from jsdelta_db.plots.files import check_data_path, check_figure_path, draw_bytes
from jsdelta_db.plots.forest import draw_forest
from jsdelta_db.plots.heat_maps import Matrix, draw_matrices
from jsdelta_db.plots.histogram import draw_histogram
from jsdelta_db.plots.panels import Sheet, divide
from jsdelta_db.queries.grouping import Table

FACTS = ["digits", "25 cnn-small models (standard, sam, adversarial)", "linf PGD, 40 steps, targets: all"]
COLUMN = Sheet(8.0, "JSΔ of successful samples", FACTS)
BELOW = Axis("js_delta", "share_below", "JSΔ", "share of successes below")


def radii(*levels):
    return [{"norm": "linf", "eps": level / 255} for level in levels]


def histogram_table(methods=("standard", "sam"), levels=(1, 3, 8), n=100, largest=1.5):
    """Bins of 0.1 from 0 to 1.5 and an open one, ten successes in each of the first ten."""
    rows = []
    for method in methods:
        for radius in radii(*levels):
            for low in np.arange(16) / 10:
                hits = 10 if low < 1 else 0
                share = {"share": hits / n, "share_low": hits / n / 2, "share_high": min(1, hits / n * 2)}
                high = None if low == largest else low + 0.1
                rows.append(
                    {**radius, "method": method, "js_delta_from": low, "js_delta_to": high, "n": hits,
                     "n_success": n, **share}
                )  # fmt: skip
    return Table(("method", "norm", "eps"), rows, {}, "linf")


def curve_table(names=("standard", "sam"), levels=(3, 8), key="method"):
    rows = [
        {**radius, key: name, "js_delta": x / 20, "share_below": x / 30, "share_below_low": x / 40,
         "share_below_high": x / 25}
        for name in names for radius in radii(*levels) for x in range(26)
    ]  # fmt: skip
    return Table((key, "norm", "eps"), rows, {}, "linf")


def pair_table(labels, levels=(8,)):
    rows = [
        {**radius, "source_label": one, "target_label": other, "bug_fraction": 0.25}
        for radius in radii(*levels) for one in labels for other in labels if one != other
    ]  # fmt: skip
    return Table(("norm", "eps", "source_label", "target_label"), rows, {}, "linf")


def pairs_of(labels):
    return Matrix("source_label", "target_label", "bug_fraction", "source", "target", "share", 0, 1, labels)


DIGITS = [str(digit) for digit in range(10)]
FIGURES = {
    "histogram": lambda sheet: draw_histogram(histogram_table(), (0.1,), sheet),
    "histogram alone": lambda sheet: draw_histogram(histogram_table(("sam",), (3,)), (0.1, 0.5), sheet),
    "curves": lambda sheet: draw_curves(curve_table(), BELOW, sheet),
    "seven lines": lambda sheet: draw_curves(curve_table(list("abcdefg")), BELOW, sheet),
    "long names": lambda sheet: draw_curves(curve_table(["x" * 90, "y" * 90]), BELOW, sheet),
    "pairs": lambda sheet: draw_matrices(pair_table(DIGITS), pairs_of(DIGITS), sheet),
    "pairs of names": lambda sheet: draw_matrices(
        pair_table(["cat", "automobile", "dog"], (3, 8)), pairs_of(["cat", "automobile", "dog"]), sheet
    ),
}


def words_of(figure):
    """The visible words of a figure, by their box on the page."""
    figure.draw_without_rendering()
    hidden = {id(text) for axes in figure.axes if not axes.get_visible() for text in axes.findobj(Text)}
    found = {}
    for text in figure.findobj(Text):
        if text.get_visible() and text.get_text().strip() and id(text) not in hidden:
            found[id(text)] = (text.get_text(), text.get_window_extent(), text.get_fontsize())
    shown = set()
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            low, high = sorted(axis.get_view_interval())
            for tick in axis.get_major_ticks() + axis.get_minor_ticks():
                labels = {id(tick.label1), id(tick.label2)}
                if not low - 1e-9 <= tick.get_loc() <= high + 1e-9:
                    shown |= labels  # outside the axis: never drawn
    return [value for key, value in found.items() if key not in shown]


@pytest.mark.parametrize(
    ("kind", "width"), [*((kind, 8.0) for kind in FIGURES), ("histogram", 17.0), ("pairs", 17.0)]
)
def test_words_are_readable_and_cover_nothing(kind, width):
    """In a column and on a page every word is on the paper, at 6 points or more, and covers no other."""
    with style.styled():
        figure = FIGURES[kind](Sheet(width, COLUMN.title, FACTS))
        words = words_of(figure)
    page = figure.bbox
    assert figure.get_figwidth() * 2.54 == pytest.approx(width)
    assert len(words) > 8
    assert min(size for *_, size in words) >= 6.0
    outside = [
        text
        for text, box, _ in words
        if box.x0 < -1 or box.x1 > page.x1 + 1 or box.y0 < -1 or box.y1 > page.y1 + 1
    ]
    covered = [
        (a[0], b[0]) for a, b in combinations(words, 2) if a[1].padded(-1.5).overlaps(b[1].padded(-1.5))
    ]
    assert (outside, covered) == ([], [])


def test_equal_figures_are_equal_bytes():
    """Drawn twice, in processes that hash differently, a figure is the same file in each format."""
    program = (
        "from hashlib import sha256; from tests.plots.test_figures import COLUMN, FIGURES; "
        "from jsdelta_db.plots.files import FORMATS, draw_bytes; "
        "print([sha256(draw_bytes(FIGURES['curves'](COLUMN), each)).hexdigest() for each in FORMATS])"
    )
    once, again = (
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": seed},
            check=True,
            capture_output=True,
        ).stdout
        for seed in ("1", "2")
    )
    assert once.count(b",") == 2
    assert once == again


def test_pdf_has_truetype_fonts():
    """The fonts of a PDF are TrueType ones (42): journals refuse Type 3."""
    content = draw_bytes(FIGURES["curves"](COLUMN), ".pdf")
    assert b"/Subtype /Type3" not in content
    assert b"/CIDFontType2" in content
    assert not re.search(rb"/CreationDate", content)


def test_png_is_as_wide_as_was_asked():
    """A column is 8 cm at 300 dots an inch."""
    with Image.open(io.BytesIO(draw_bytes(FIGURES["curves"](COLUMN)))) as image:
        assert image.width == pytest.approx(8 / 2.54 * 300, abs=1)


def test_users_settings_stay_and_do_not_matter():
    """A figure ignores the user's matplotlib settings, and leaves them as they were."""
    plain = draw_bytes(FIGURES["curves"](COLUMN), ".svg")
    with matplotlib.rc_context({"font.size": 30, "axes.facecolor": "red", "svg.fonttype": "none"}):
        before = dict(matplotlib.rcParams)
        assert draw_bytes(FIGURES["curves"](COLUMN), ".svg") == plain
        assert dict(matplotlib.rcParams) == before


def test_names_are_text():
    """Dollars, carets, underscores, brackets and letters that the font lacks are shown as they are, without a warning."""
    names = ["$x_1^2$", "a_b & {c} % \\d", "手書き", "\x1b[31mred"]
    figure = draw_curves(curve_table(names), BELOW, Sheet(17.0, "$\\alpha$ of \x1b[1m", ["50 % & more_"]))
    svg = draw_bytes(figure, ".svg").decode()
    words = [text.get_text() for text in figure.findobj(Text)]
    assert {"$x_1^2$", "a_b & {c} % \\d", "手書き", "\\x1b[31mred", "$\\alpha$ of \\x1b[1m"} <= set(words)
    assert "\x1b" not in svg


def test_long_names_lose_their_middle():
    """A name that is too wide keeps its ends; one that fits is whole."""
    assert style.fit("standard", 3.0) == "standard"
    short = style.fit("an-ensemble-of-a-very-long-name-number-17", 3.0)
    assert short.startswith("an-ens")
    assert short.endswith("17")
    assert "…" in short
    assert style.measure(short, style.TEXT) <= 3.0
    assert style.wrap(["digits", "5 models"], 8.0) == ["digits · 5 models"]
    assert style.wrap(["digits" * 4, "models" * 5], 5.0) == ["digits" * 4, "models" * 5]


def test_a_grey_print_tells_lines_apart():
    """Lines go from dark to light; neighbours differ in dashes and markers, too."""
    rgb = np.array([[int(color[i : i + 2], 16) for i in (1, 3, 5)] for color in style.COLORS]) / 255
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    luminance = linear @ [0.2126, 0.7152, 0.0722]
    assert (np.diff(luminance) > 0.04).all()
    styles = [style.line_style(number) for number in range(30)]
    for one, other in pairwise(styles):
        assert all(one[key] != other[key] for key in ("color", "linestyle", "marker"))
    assert len({str(each) for each in styles}) == 30


def test_panels_share_axes_and_are_in_order():
    """Columns go by ε, rows by name, numbers by their value; all panels have the same axes."""
    table = histogram_table(("sam", "adversarial"), (8, 1, 3))
    panels = divide(table)
    assert [[panel.head for panel in line] for line in panels] == [
        ["ε = 1/255", "ε = 3/255", "ε = 8/255"]
    ] * 2
    assert [line[0].side for line in panels] == ["adversarial", "sam"]
    figure = draw_histogram(table, (0.1,), COLUMN)
    assert len({(axes.get_xlim(), axes.get_ylim()) for axes in figure.axes}) == 1
    rhos = divide(curve_table([0.3, None, 0.05], (8,), "sam_rho"), has_lines=True)
    assert list(rhos[0][0].lines) == ["sam rho none", "sam rho 0.05", "sam rho 0.3"]


def test_a_histogram_draws_its_rows():
    """Bars are the rows' shares, thresholds stand at β, and the words say what lies below."""
    figure = draw_histogram(histogram_table(("sam",), (3,)), (0.2, 0.5), COLUMN)
    (axes,) = figure.axes
    (bars,) = [patch for patch in axes.patches if hasattr(patch, "get_data")]
    assert bars.get_data().values == pytest.approx([0.1] * 10)
    assert sorted(line.get_xdata()[0] for line in axes.lines) == [0.2, 0.5]
    side, said = [text.get_text() for text in axes.texts]
    assert side == "sam"
    assert said == "n = 100\n20% below β = 0.2\n50% below β = 0.5"


def test_a_forest_draws_its_rows():
    """Each label has its value and interval; without bounds only the value; without a value nothing."""
    rows = [
        {"label": "a", "value": 0.5, "low": 0.2, "high": 0.7},
        {"label": "b", "value": -0.1, "low": None, "high": None},
        {"label": "c", "value": None, "low": None, "high": None},
    ]
    figure = draw_forest(Table((), rows, {}, "linf"), COLUMN, name="difference")
    (axes,) = figure.axes
    drawn = [list(map(float, line.get_xdata())) for line in axes.lines]
    assert drawn == [[0, 0], [0.2, 0.7], [0.5], [-0.1]]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("text", "fragment"),
    [
        ("wide", "is not a width: must be column"),
        ("4.9", "out of range"),
        ("nan", "out of range"),
        ("101", "out of range"),
    ],
)
def test_bad_widths(text, fragment):
    """A width is a word or a number of cm that a page can have."""
    with pytest.raises(UsageError, match=fragment):
        style.parse_width(text)


def test_widths():
    """Words are the usual widths of a journal; numbers are cm."""
    assert [style.parse_width(text) for text in ("column", "page", "12.5")] == [8.0, 17.0, 12.5]


def test_files_are_not_replaced_unasked(tmp_path):
    """A figure or its numbers replace a file only by force; endings are checked before any work."""
    there = tmp_path / "there.pdf"
    there.touch()
    numbers = tmp_path / "numbers.csv"
    numbers.touch()
    check_figure_path(there, force=True)
    check_figure_path(tmp_path / "new.svg", force=False)
    for check, path in ((check_figure_path, there), (check_data_path, numbers)):
        with pytest.raises(UsageError, match="exists; add --force"):
            check(path, force=False)
    with pytest.raises(UsageError, match=r"--data .* must be .csv or .json"):
        check_data_path(tmp_path / "numbers.xlsx")
