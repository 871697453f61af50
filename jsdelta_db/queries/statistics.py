"""Statistics: intervals for fractions, ratios and differences; in NumPy alone, so that queries start fast."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import exp, factorial

import numpy as np
from numpy.typing import NDArray

Z_95 = 1.959963984540054  # the standard normal's 97.5 % point
BOOTSTRAP_DRAWS = 2_000
BOOTSTRAP_SEED = 2601_00577
IMAGES_AT_ONCE = 512  # weights drawn together: 4 MB
# A uniform 16-bit number has reached k of these with the probability that Poisson(1) is at least k.
POISSON_BOUNDS = np.round(np.cumsum([exp(-1) / factorial(k) for k in range(8)]) * (1 << 16)).astype(np.uint16)
BINS = 10  # a difference is matched within deciles


@dataclass(frozen=True, slots=True)
class Interval:
    """A 95 % interval and its kind: ``wilson``, ``bootstrap`` or ``wilson over images``."""

    low: float
    high: float
    kind: str


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number with the 95 % interval of a bootstrap over images."""

    value: float
    low: float
    high: float


def wilson(successes: float, trials: float) -> tuple[float, float]:
    """Return Wilson's 95 % score interval of a binomial fraction.

    Source: Wilson 1927; Brown, Cai and DasGupta 2001, "Interval Estimation for a Binomial Proportion".

    Raises:
        ValueError: no trials, or more successes than trials.
    """
    if not 0 <= successes <= trials or trials == 0:
        raise ValueError(f"{successes} successes in {trials} trials")
    share, z2 = successes / trials, Z_95 * Z_95
    centre = (share + z2 / (2 * trials)) / (1 + z2 / trials)
    margin = Z_95 / (1 + z2 / trials) * np.sqrt(share * (1 - share) / trials + z2 / (4 * trials * trials))
    # Exactly 0 and 1 at the ends: the closed form rounds them to ±1e-17.
    low = 0.0 if successes == 0 else max(0.0, float(centre - margin))
    high = 1.0 if successes == trials else min(1.0, float(centre + margin))
    return low, high


@dataclass(frozen=True, slots=True)
class Fraction:
    """``sum(hits) / sum(trials)`` over images, whose interval is wanted.

    Attributes:
        hits, trials: rows of each image that count above and below the line, ``(images,)``.
        one_row_per_image: whether the rows of the group are independent: none shows the same image twice.
    """

    hits: NDArray[np.float64]
    trials: NDArray[np.float64]
    one_row_per_image: bool


def fraction_intervals(fractions: Sequence[Fraction]) -> list[Interval | None]:
    """Return the interval of each fraction; None without trials.

    Where each image appears once the rows are independent, and Wilson's interval holds. Else whole
    images are resampled: 2,000 draws of per-image sums, seeded, so that the same rows always give
    the same interval. Where all or no rows hit, every draw would be the same: Wilson's over images.
    """
    found: list[Interval | None] = []
    drawn = []
    for fraction in fractions:
        n_hits, n_trials = int(fraction.hits.sum()), int(fraction.trials.sum())
        if n_trials == 0:
            found.append(None)
        elif fraction.one_row_per_image:
            found.append(Interval(*wilson(n_hits, n_trials), kind="wilson"))
        elif n_hits in (0, n_trials):
            # Images, not rows, are what is independent.
            images = int((fraction.trials > 0).sum())
            found.append(Interval(*wilson(images if n_hits else 0, images), kind="wilson over images"))
        else:
            drawn.append(len(found))
            found.append(None)
    for place, (low, high) in zip(drawn, _drawn_intervals([fractions[n] for n in drawn]), strict=True):
        found[place] = Interval(low, high, kind="bootstrap")
    return found


def _drawn_intervals(fractions: Sequence[Fraction]) -> list[tuple[float, float]]:
    """Return the bootstrap's interval of each fraction."""
    if not fractions:
        return []
    # Fractions of one group share arrays; each array is summed once.
    columns = {id(column): column for each in fractions for column in (each.hits, each.trials)}
    places = {key: place for place, key in enumerate(columns)}
    # Images that a column lacks add 0 to it, so groups of all sizes are drawn together.
    sums = np.zeros((max(map(len, columns.values())), len(columns)), dtype=np.float32)
    for place, column in enumerate(columns.values()):
        sums[: len(column), place] = column
    totals = resampled_sums(sums).astype(np.float64)
    hits = totals[:, [places[id(each.hits)] for each in fractions]]
    trials = totals[:, [places[id(each.trials)] for each in fractions]]
    with np.errstate(invalid="ignore"):  # a draw without trials has no quotient, and is left out
        quotients = hits / trials
    percentile = np.nanpercentile if np.isnan(quotients).any() else np.percentile
    low, high = percentile(quotients, [2.5, 97.5], axis=0)
    return list(zip(low.tolist(), high.tolist(), strict=True))


class FractionIntervals:
    """Intervals for fractions of one group of rows, several of which may show the same image.

    Args:
        image: which image each row shows, any integers, ``(n,)``.
    """

    def __init__(self, image: NDArray[np.int64]) -> None:
        self._images, self._of_row = np.unique(image, return_inverse=True)

    def interval(self, hits: NDArray[np.bool_], trials: NDArray[np.bool_]) -> Interval | None:
        """Return the interval of ``sum(hits) / sum(trials)``; None without trials.

        Args:
            hits: rows that count above the line, each of which counts below it too, ``(n,)``.
            trials: rows that count below the line, ``(n,)``.
        """
        n = len(self._images)
        above, below = (np.bincount(self._of_row, mask, n).astype(np.float64) for mask in (hits, trials))
        return fraction_intervals([Fraction(above, below, n == len(self._of_row))])[0]


def ratio_of_means(
    above: NDArray[np.float64], below: NDArray[np.float64], image: NDArray[np.int64]
) -> Estimate | None:
    """Return mean(above) / mean(below); None where below is empty or all 0.

    Args:
        above, below: one value a row, ``(n,)``.
        image: which image each row shows, any integers, ``(n,)``.
    """
    return _estimate(_sums_by_image(image, [above, below]), lambda sums: sums[:, 0] / sums[:, 1])


def difference_of_means(
    values: NDArray[np.float64], is_first: NDArray[np.bool_], image: NDArray[np.int64]
) -> Estimate | None:
    """Return the mean of the first kind of rows minus that of the others; None without rows of both.

    Args:
        values: one value a row, ``(n,)``.
        is_first: which rows are of the first kind, ``(n,)``.
        image: which image each row shows, any integers, ``(n,)``.
    """
    sums = _sums_by_image(image, _by_kind(values, is_first))
    return _estimate(sums, lambda sums: sums[:, 0] / sums[:, 1] - sums[:, 2] / sums[:, 3])


def matched_difference(
    values: NDArray[np.float64],
    is_first: NDArray[np.bool_],
    matched_on: NDArray[np.float64],
    image: NDArray[np.int64],
) -> Estimate | None:
    """Return the difference of means of matched rows; None where none match.

    Both kinds are compared within deciles of ``matched_on`` over all rows; each decile's difference
    counts by the smaller number of rows that it has of a kind. The deciles stay those of the rows given
    while images are resampled.

    Args:
        values: one value a row, ``(n,)``.
        is_first: which rows are of the first kind, ``(n,)``.
        matched_on: the values that rows are matched on, ``(n,)``.
        image: which image each row shows, any integers, ``(n,)``.
    """
    if not len(values):
        return None
    # Equal values share a bin, so there may be fewer bins than ten.
    edges = np.quantile(matched_on, np.linspace(0, 1, BINS + 1)[1:-1])
    bins = np.searchsorted(edges, matched_on, side="right")
    return _estimate(_sums_by_image(image, _by_kind(values, is_first), bins, BINS), _matched)


def _matched(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the matched difference of each row of sums: values and counts by decile, for both kinds."""
    first, n_first, other, n_other = np.split(sums, 4, axis=1)
    weights = np.minimum(n_first, n_other)
    differences = np.where(weights > 0, first / n_first - other / n_other, 0.0)
    result: NDArray[np.float64] = (weights * differences).sum(1) / weights.sum(1)
    return result


def _by_kind(values: NDArray[np.float64], is_first: NDArray[np.bool_]) -> list[NDArray[np.float64]]:
    """Return the columns of a difference: values and counts of the first kind, then of the other."""
    first, other = is_first.astype(np.float64), (~is_first).astype(np.float64)
    return [values * first, first, values * other, other]


def _sums_by_image(
    image: NDArray[np.int64],
    columns: Sequence[NDArray[np.float64]],
    bins: NDArray[np.int64] | int = 0,
    n_bins: int = 1,
) -> NDArray[np.float64]:
    """Return each image's sums, bin by bin for one column after the other ``(images, columns · n_bins)``."""
    images, of_row = np.unique(image, return_inverse=True)
    cell = of_row * n_bins + bins
    sums = [np.bincount(cell, column, len(images) * n_bins).reshape(-1, n_bins) for column in columns]
    return np.concatenate(sums, axis=1)


def _estimate(
    sums: NDArray[np.float64], statistic: Callable[[NDArray[np.float64]], NDArray[np.float64]]
) -> Estimate | None:
    """Return a statistic of the sums over images, with its interval; None where nothing can be divided.

    Args:
        sums: per image ``(images, columns)``.
        statistic: maps sums ``(draws, columns)`` to values ``(draws,)``.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        (value,) = statistic(sums.sum(0, keepdims=True))
        if not np.isfinite(value):
            return None
        drawn = statistic(resampled_sums(sums.astype(np.float32)).astype(np.float64))
    # A draw with a zero denominator has no value, and is left out.
    low, high = np.percentile(drawn[np.isfinite(drawn)], [2.5, 97.5])
    return Estimate(float(value), float(low), float(high))


def resampled_sums(sums: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return column sums over resampled images, ``(draws, columns)``.

    The bootstrap weighs each image by Poisson(1) instead of drawing a fixed number of images. For quotients
    of sums, which are all that is computed from it, the two are alike; and an image's weights do not depend
    on the other images, so all groups of a query share them and are one matrix product.

    Source: Hanley and MacGibbon 2006, "Creating non-parametric bootstrap samples using Poisson
    frequencies".

    Args:
        sums: per-image sums ``(images, columns)``.
    """
    totals = np.zeros((BOOTSTRAP_DRAWS, sums.shape[1]), dtype=np.float32)
    for block, start in enumerate(range(0, len(sums), IMAGES_AT_ONCE)):
        some = sums[start : start + IMAGES_AT_ONCE]
        totals += _weights(block)[:, : len(some)] @ some
    return totals


@lru_cache(maxsize=24)  # 100 MB
def _weights(block: int) -> NDArray[np.float32]:
    """Return how often each draw contains each image of a block, ``(draws, images)``."""
    shape = (BOOTSTRAP_DRAWS, IMAGES_AT_ONCE)
    drawn = np.random.default_rng((BOOTSTRAP_SEED, block)).integers(0, 1 << 16, shape, dtype=np.uint16)
    weights = np.zeros(shape, dtype=np.uint8)
    for bound in POISSON_BOUNDS:
        weights += drawn >= bound
    return weights.astype(np.float32)
