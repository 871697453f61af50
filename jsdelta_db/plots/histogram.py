"""Histogram of JSΔ: one panel per ε, thresholds marked; as a figure or as lines of text."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from jsdelta_db.config.eps import format_eps
from jsdelta_db.config.evaluation import DEFAULT_BETAS
from jsdelta_db.records import SEEN_SPLITS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

JsDeltaByEps = Mapping[tuple[str, float, str], NDArray[np.float64]]  # by norm, ε and split

BIN_WIDTH = 0.025
TEXT_BINS = np.array([0.0, 0.01, 0.05, 0.10, 0.2, 0.4, 0.6, 0.8, 1.0, np.inf])
LINE_STYLES = (":", "--", "-")


def draw_histogram(js_delta: JsDeltaByEps, betas: Sequence[float] = DEFAULT_BETAS) -> "Figure":
    """Draw the JSΔ of successful samples, one panel per ε, each threshold a line with its share."""
    from matplotlib.figure import Figure  # without pyplot: no global state, no display

    # JSΔ has no upper bound: the axis reaches the largest value, nothing is clipped.
    largest = max((float(values.max()) for values in js_delta.values() if len(values)), default=1.0)
    bins = np.arange(0.0, max(1.2, largest) + BIN_WIDTH, BIN_WIDTH)
    figure = Figure(figsize=(8.0, 1.3 + 1.35 * len(js_delta)), layout="constrained")
    panels = figure.subplots(len(js_delta), 1, sharex=True, squeeze=False)[:, 0]
    for panel, ((norm, eps, split), values) in zip(panels, js_delta.items(), strict=True):
        shares = np.full(len(values), 1.0 / max(1, len(values)))
        panel.hist(values, bins=bins, weights=shares, color="#4878a8")
        for beta, style in zip(betas, _styles(len(betas)), strict=True):
            below = f"{(values < beta).mean():.0%}" if len(values) else "–"
            panel.axvline(
                beta, color="#c44e52", linestyle=style, linewidth=1.1, label=f"{below} below β = {beta:g}"
            )
        title = f"{norm}, ε = {format_eps(eps, norm)}{mark_split(split)}: {len(values):,} successful"
        panel.set_title(title, fontsize=9, loc="left")
        panel.set_ylabel("share", fontsize=8)
        panel.tick_params(labelsize=8)
        panel.legend(fontsize=7, frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0))
        panel.spines[["top", "right"]].set_visible(False)
    panels[-1].set_xlabel("JSΔ (0: no evaluator noticed, 1: as large as a real change of class)", fontsize=9)
    figure.suptitle("Did features move, or was it a blind spot?", fontsize=10)
    return figure


def mark_split(split: str) -> str:
    """Return what a title adds where models have seen the images, or are measured on them."""
    return f", {split} split" if split in SEEN_SPLITS else ""


def _styles(count: int) -> list[str]:
    return [LINE_STYLES[i % len(LINE_STYLES)] for i in range(count)]


def text_histogram(js_delta: JsDeltaByEps, columns: int = 80) -> list[str]:
    """Return the histogram as lines: a row per range of JSΔ, a column per ε, bars by share.

    Args:
        js_delta: JSΔ by norm, ε and split.
        columns: of the terminal; the bars fill it.
    """
    width = max(10, min(24, (columns - 13) // max(1, len(js_delta)) - 2))
    heads = [f"ε = {format_eps(eps, norm)}{mark_split(split)}" for norm, eps, split in js_delta]
    lines = [f"{'JSΔ':>11}  " + "  ".join(head.ljust(width) for head in heads)]
    counts = [np.histogram(values, TEXT_BINS)[0] / max(1, len(values)) for values in js_delta.values()]
    for row, (low, high) in enumerate(pairwise(TEXT_BINS)):
        label = f"{low:.2f}–{high:.2f}" if np.isfinite(high) else f"over {low:.2f}"
        cells = [_bar(share[row], width - 5) + f" {share[row]:>4.0%}" for share in counts]
        lines.append(f"{label:>11}  " + "  ".join(cell.ljust(width) for cell in cells))
    return [line.rstrip() for line in lines]


def _bar(share: float, width: int) -> str:
    """Return a bar in eighths of a character."""
    eighths = round(share * width * 8)
    full, part = divmod(eighths, 8)
    return ("█" * full + " ▏▎▍▌▋▊▉"[part].strip()).ljust(width)
