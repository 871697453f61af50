"""Figure of samples: clean image, change, adversarial image, and each evaluator's probabilities."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from jsdelta_db.plots.display import QUIET_COLOR, Display

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SOURCE_COLOR, TARGET_COLOR = "#4878a8", "#c44e52"
VERDICT_COLORS = {"bug": "#b35900", "feature": "#2f7d4f", "not successful": QUIET_COLOR}
LONGEST_LABEL, LONGEST_NAME = 11, 18  # letters that fit over an image, and beside the bars
LONGEST_TITLE = 78  # letters at full size

# The page, in inches. Axes are placed by hand: a layout engine would size rows by their longest label.
MARGIN, HEAD, FOOT = 0.2, 0.95, 0.5
IMAGE, GAP, TITLE = 1.4, 0.16, 0.27
LETTER, BARS, JS = 0.078, 3.0, 0.55  # of an evaluator's name, the bars, and the numbers right of them
LANE = 0.29  # height of one evaluator
LEFT_OF_BARS = MARGIN + 3 * (IMAGE + GAP)


@dataclass(frozen=True, slots=True)
class Opinion:
    """One evaluator's probabilities on x and on x_adv, and their divergence in bits."""

    evaluator: str
    source_before: float
    source_after: float
    target_before: float
    target_after: float
    js: float


@dataclass(frozen=True, slots=True)
class SamplePicture:
    """One sample as it is drawn.

    Attributes:
        name: distinguishes it from other samples, such as ``image 17``.
        x, x_adv: float32 ``(c, h, w)`` in [0, 1].
        confidence: the attacked model's probability of the target label on x_adv.
        js_delta: None where the label pair has no baseline.
    """

    name: str
    source_label: str
    target_label: str
    x: NDArray[np.float32]
    x_adv: NDArray[np.float32]
    success: bool
    confidence: float
    js_delta: float | None
    opinions: Sequence[Opinion]

    def verdict(self, beta: float) -> str:
        """Return ``bug``, ``feature``, or why it is neither."""
        if not self.success:
            return "not successful"
        if self.js_delta is None:
            return "no baseline"
        return "bug" if self.js_delta < beta else "feature"


def choose_display(samples: Sequence[SamplePicture]) -> Display:
    """Return the display of all samples of a figure."""
    images = [image for each in samples for image in (each.x, each.x_adv)]
    return Display.of(images, [_change(each) for each in samples])


@dataclass(frozen=True, slots=True)
class _Page:
    """A figure measured in inches from its top left corner."""

    figure: "Figure"
    width: float
    height: float

    @property
    def left_of_bars(self) -> float:
        return self.width - MARGIN - JS - BARS

    def write(self, text: str, left: float, baseline: float, **style: Any) -> None:  # noqa: ANN401 matplotlib's
        self.figure.text(left / self.width, 1.0 - baseline / self.height, text, **style)

    def add_panel(self, left: float, top: float, width: float, height: float) -> "Axes":
        bottom = 1.0 - (top + height) / self.height
        return self.figure.add_axes((left / self.width, bottom, width / self.width, height / self.height))


def draw_samples(samples: Sequence[SamplePicture], *, title: str, beta: float) -> "Figure":
    """Draw one row per sample.

    Args:
        samples: at least one.
        title: the attack that they are from.
        beta: the threshold for the words bug and feature.
    """
    from matplotlib.figure import Figure  # without pyplot: no global state, no display

    display = choose_display(samples)
    heights = [max(IMAGE, LANE * len(each.opinions)) for each in samples]
    total = HEAD + FOOT + sum(heights) + TITLE * len(samples)
    names = [opinion.evaluator for each in samples for opinion in each.opinions]
    longest = max(len(_shorten(name, LONGEST_NAME)) for name in names)
    width = LEFT_OF_BARS + LETTER * longest + BARS + JS + MARGIN
    page = _Page(Figure(figsize=(width, total)), width, total)
    _write_head(page, title, display)
    top = HEAD
    for sample, height in zip(samples, heights, strict=True):
        _draw_images(page, sample, display, top + TITLE)
        panel = page.add_panel(page.left_of_bars, top + TITLE, BARS, height)
        _draw_opinions(panel, sample.opinions)
        _write_verdict(panel, sample, beta)
        top += TITLE + height
    panel.tick_params(axis="x", labelbottom=True)  # the last row's
    panel.set_xlabel("probability", fontsize=8, labelpad=2)
    return page.figure


def _write_head(page: _Page, title: str, display: Display) -> None:
    """Write the title and the heading of each column."""
    from matplotlib.lines import Line2D

    page.write(title, MARGIN, 0.3, fontsize=min(11.0, 11.0 * LONGEST_TITLE / len(title)), weight="bold")
    stretched = f"contrast × {display.contrast:.1f}, both" if display.contrast > 1.0 else ""
    heads = (
        ("clean image", stretched),
        (f"change × {display.magnification}", "mid-grey: no change"),
        ("adversarial image", "attacked model's confidence"),
    )
    for column, lines in enumerate(heads):
        for line, text in enumerate(lines):
            where = MARGIN + column * (IMAGE + GAP)
            page.write(text, where, 0.66 + 0.17 * line, fontsize=8, color=QUIET_COLOR)
    page.write("what each evaluator says", page.left_of_bars, 0.66, fontsize=8, color=QUIET_COLOR)
    page.write("js in bits", page.width - MARGIN, 0.66, fontsize=8, color=QUIET_COLOR, ha="right")
    marks = [
        Line2D([], [], color=SOURCE_COLOR, linewidth=3, label="p(source label)"),
        Line2D([], [], color=TARGET_COLOR, linewidth=3, label="p(target label)"),
        Line2D([], [], color="k", marker="o", markerfacecolor="w", linestyle="", markersize=5, label="on x"),
        Line2D([], [], color="k", marker="o", linestyle="", markersize=5, label="on x_adv"),
    ]
    page.figure.legend(
        handles=marks, loc="center right", ncols=4, fontsize=8, frameon=False, borderpad=0.0,
        borderaxespad=0.0,
        bbox_to_anchor=(1.0 - MARGIN / page.width, 1.0 - 0.8 / page.height), handlelength=1.2,
        handletextpad=0.5, columnspacing=1.2,
    )  # fmt: skip


def _draw_images(page: _Page, sample: SamplePicture, display: Display, top: float) -> None:
    """Draw clean image, change and adversarial image, with the attacked model's confidence."""
    columns = (
        (display.image(sample.x), _shorten(sample.source_label, LONGEST_LABEL), ""),
        (display.change(_change(sample)), "", sample.name),
        (
            display.image(sample.x_adv),
            _shorten(sample.target_label, LONGEST_LABEL),
            f"{sample.confidence:.0%}",
        ),
    )
    for column, (picture, label, aside) in enumerate(columns):
        panel = page.add_panel(MARGIN + column * (IMAGE + GAP), top, IMAGE, IMAGE)
        panel.imshow(np.clip(picture, 0.0, 1.0), interpolation="nearest")
        panel.set_axis_off()
        panel.set_anchor("N")
        panel.set_title(label, fontsize=9, loc="left", pad=3, weight="bold")
        panel.set_title(aside, fontsize=8, loc="right" if label else "left", pad=3, color=QUIET_COLOR)


def _write_verdict(panel: "Axes", sample: SamplePicture, beta: float) -> None:
    """Write JSΔ and the verdict above a panel."""
    number = "undefined" if sample.js_delta is None else f"{sample.js_delta:.3f}"
    threshold = f"{beta:.2f}" if round(beta, 2) == beta else f"{beta:g}"
    verdict = sample.verdict(beta)
    color = VERDICT_COLORS.get(verdict, QUIET_COLOR)
    panel.set_title(f"JSΔ = {number}", fontsize=9, loc="left", pad=3, weight="bold")
    headline = f"{verdict} at β = {threshold}" if verdict in ("bug", "feature") else verdict
    panel.set_title(headline, fontsize=9, loc="right", pad=3, weight="bold", color=color)


def _draw_opinions(panel: "Axes", opinions: Sequence[Opinion]) -> None:
    """Draw each evaluator's change of probabilities: two lines each, from x to x_adv."""
    for lane, opinion in enumerate(opinions):
        for offset, before, after, color in (
            (-0.19, opinion.source_before, opinion.source_after, SOURCE_COLOR),
            (0.19, opinion.target_before, opinion.target_after, TARGET_COLOR),
        ):
            panel.plot([before, after], [lane + offset] * 2, color=color, linewidth=2.6, alpha=0.45)
            panel.plot(before, lane + offset, "o", color=color, markerfacecolor="w", markersize=5, zorder=3)
            panel.plot(after, lane + offset, "o", color=color, markersize=4.4, zorder=4)
        panel.annotate(
            f"{opinion.js:.3f}", (1.0, lane), (6, 0), ("axes fraction", "data"), textcoords="offset points",
            fontsize=8, va="center",
        )  # fmt: skip
    panel.set_xlim(-0.03, 1.03)
    panel.set_ylim(len(opinions) - 0.5, -0.5)
    panel.set_xticks([0.0, 0.25, 0.5, 0.75, 1.0], ["0", "", "0.5", "", "1"])
    panel.set_yticks(
        range(len(opinions)), [_shorten(opinion.evaluator, LONGEST_NAME) for opinion in opinions], fontsize=8
    )
    panel.tick_params(axis="y", length=0, pad=3)
    panel.tick_params(axis="x", length=0, labelsize=7, labelbottom=False)
    panel.grid(axis="x", color="#e4e4e4", linewidth=0.7)
    panel.set_axisbelow(True)
    for lane in range(len(opinions) - 1):
        panel.axhline(lane + 0.5, color="#efefef", linewidth=0.7, zorder=0)
    panel.spines[:].set_color("#d0d0d0")


def _shorten(name: str, letters: int) -> str:
    """Return a name without its middle if it is too long: similar names differ at the end."""
    tail = (letters - 1) // 2
    return name if len(name) <= letters else f"{name[: letters - 1 - tail]}…{name[-tail:]}"


def _change(sample: SamplePicture) -> NDArray[np.float64]:
    return sample.x_adv.astype(np.float64) - sample.x
