"""Histogram of JSΔ as lines of text: a row for each range, a column for each ε."""

from collections.abc import Mapping
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from jsdelta_db.config.eps import format_eps
from jsdelta_db.records import SEEN_SPLITS

JsDeltaByEps = Mapping[tuple[str, float, str], NDArray[np.float64]]  # by norm, ε and split

TEXT_BINS = np.array([0.0, 0.01, 0.05, 0.10, 0.2, 0.4, 0.6, 0.8, 1.0, np.inf])


def mark_split(split: str) -> str:
    """Return what a title adds where models have seen the images, or are measured on them."""
    return f", {split} split" if split in SEEN_SPLITS else ""


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
