"""Means: ratios and differences of means of rows, with 95 % intervals over images.

What each image adds to the error of a number, squared and summed, is its variance, however the rows of an
image hang together. Ratios are taken on the log scale, so that no bound leaves their range.

Source: Liang and Zeger 1986, "Longitudinal data analysis using generalized linear models".
"""

from dataclasses import dataclass
from math import exp, sqrt

import numpy as np
from numpy.typing import NDArray

from jsdelta_db.queries.statistics.student import t_quantile
from jsdelta_db.queries.statistics.sums import Floats, sums_by_image

LARGEST_MARGIN = 700.0  # on a log scale: what exp() can take
ROUNDING = 1e-9  # a spread that is smaller, relatively, is none
BINS = 10  # a difference is matched within deciles


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number with its 95 % interval over images; bounds are None where nothing can be said."""

    value: float
    low: float | None
    high: float | None


def ratio_of_means(above: Floats, below: Floats, image: NDArray[np.int64]) -> Estimate | None:
    """Return mean(above) / mean(below), its interval on the log scale; None where below is empty or all 0.

    Args:
        above, below: one value from 0 a row, ``(n,)``.
        image: which image each row shows, any integers, ``(n,)``.
    """
    x, y = sums_by_image(image, [above, below]).T
    if not y.sum():
        return None
    ratio = float(x.sum() / y.sum())
    spread = _spread((x - ratio * y) / y.sum())
    if spread <= ROUNDING * ratio:
        return Estimate(ratio, None, None)
    factor = exp(min(t_quantile(0.975, len(x) - 1) * spread / ratio, LARGEST_MARGIN))
    return Estimate(ratio, ratio / factor, ratio * factor)


def difference_of_means(
    values: Floats, is_first: NDArray[np.bool_], image: NDArray[np.int64]
) -> Estimate | None:
    """Return the mean of the first kind of rows minus that of the others; None without rows of both.

    Of one image alone, a kind has no spread, and the difference no bounds.

    Args:
        values: one value in 0..1 a row, ``(n,)``.
        is_first: which rows are of the first kind, ``(n,)``.
        image: which image each row shows, any integers, ``(n,)``.
    """
    first, n_first, other, n_other = sums_by_image(image, _by_kind(values, is_first)).T
    if not (n_first.any() and n_other.any()):
        return None
    of_first, of_other = first.sum() / n_first.sum(), other.sum() / n_other.sum()
    errors = (first - of_first * n_first) / n_first.sum() - (other - of_other * n_other) / n_other.sum()
    fewest = min(np.count_nonzero(n_first), np.count_nonzero(n_other))
    spread = _spread(errors) if fewest > 1 else 0.0
    return _difference(float(of_first - of_other), spread, len(errors))


def matched_difference(
    values: Floats, is_first: NDArray[np.bool_], matched_on: Floats, image: NDArray[np.int64]
) -> Estimate | None:
    """Return the difference of means of matched rows; None where none match.

    Both kinds are compared within deciles of ``matched_on`` over all rows; each decile's difference
    counts by the smaller number of rows that it has of a kind. The spread is a jackknife's: each image that
    takes part is left out in turn, the deciles staying those of the rows given.

    Args:
        values: one value in 0..1 a row, ``(n,)``.
        is_first: which rows are of the first kind, ``(n,)``.
        matched_on: the values that rows are matched on, ``(n,)``.
        image: which image each row shows, any integers, ``(n,)``.
    """
    if not len(values):
        return None
    # Equal values share a bin, so there may be fewer bins than ten.
    edges = np.quantile(matched_on, np.linspace(0, 1, BINS + 1)[1:-1])
    bins = np.searchsorted(edges, matched_on, side="right")
    sums = sums_by_image(image, _by_kind(values, is_first), bins, BINS)
    (value,) = _matched(sums.sum(0, keepdims=True))
    if np.isnan(value):
        return None
    n_first, n_other = sums[:, BINS : 2 * BINS], sums[:, 3 * BINS :]
    is_matched = (n_first.sum(0) > 0) & (n_other.sum(0) > 0)
    taking_part = sums[((n_first + n_other)[:, is_matched] > 0).any(1)]
    without = _matched(taking_part.sum(0) - taking_part)
    n_images = len(taking_part)
    spread = 0.0  # where nothing matches without one of the images
    if not np.isnan(without).any():
        spread = sqrt((n_images - 1) / n_images * ((without - without.mean()) ** 2).sum())
    return _difference(float(value), spread, n_images)


def _matched(sums: Floats) -> Floats:
    """Return the matched difference of each row of sums, NaN where nothing matches.

    Args:
        sums: values and counts by decile, for both kinds.
    """
    first, n_first, other, n_other = np.split(sums, 4, axis=1)
    weights = np.minimum(n_first, n_other)
    with np.errstate(invalid="ignore", divide="ignore"):
        differences = np.where(weights > 0, first / n_first - other / n_other, 0.0)
        result: Floats = (weights * differences).sum(1) / weights.sum(1)
    return result


def _difference(value: float, spread: float, n_images: int) -> Estimate:
    """Return a difference of means of values in 0..1 with its interval."""
    if spread <= ROUNDING:
        return Estimate(value, None, None)
    margin = t_quantile(0.975, n_images - 1) * spread
    return Estimate(value, max(value - margin, -1.0), min(value + margin, 1.0))


def _spread(errors: Floats) -> float:
    """Return the standard error of a number from what each image adds to its error; 0 of one image."""
    n_images = len(errors)
    return sqrt(n_images / (n_images - 1) * float(errors @ errors)) if n_images > 1 else 0.0


def _by_kind(values: Floats, is_first: NDArray[np.bool_]) -> list[Floats]:
    """Return the columns of a difference: values and counts of the first kind, then of the other."""
    first, other = is_first.astype(np.float64), (~is_first).astype(np.float64)
    return [values * first, first, values * other, other]
