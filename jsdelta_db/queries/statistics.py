"""Statistics: 95 % intervals over images, for fractions, ratios and differences.

Rows of one image are no independent draws (targets, ε, attacked models), so images are what intervals count:
what each image adds to the error of a number, squared and summed, is its variance, however the rows of an
image hang together, and Student's t with images − 1 degrees of freedom makes an interval of it. Fractions are
taken on the logit scale and ratios on the log scale, so that no bound leaves their range. In NumPy alone, so
that queries start fast.

Source: Liang and Zeger 1986, "Longitudinal data analysis using generalized linear models".
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, sqrt

import numpy as np
from numpy.typing import NDArray

from jsdelta_db.queries.student import t_quantile

Z_95 = 1.959963984540054  # the standard normal's 97.5 % point
TOO_FEW_IMAGES = 30  # under which an interval is marked
TOO_FEW_OF_A_KIND = 5  # images with a hit, or with another row, under which an interval is marked
LARGEST_MARGIN = 700.0  # on a logit or log scale: what exp() can take
ROUNDING = 1e-9  # a spread that is smaller, relatively, is none
BINS = 10  # a difference is matched within deciles

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Share:
    """A share of rows, ``hits / trials``, with its 95 % interval over images.

    Attributes:
        value: None without trials.
        low, high: None where nothing can be said: no trials, one image, or every image alike.
        kind: of the interval: ``wilson``, ``wilson over images`` or ``cluster-robust``; None without one.
        n_images: images with trials.
        n_images_hit, n_images_other: images with a hit, and with a trial that is none; one can be both.
    """

    value: float | None
    low: float | None
    high: float | None
    kind: str | None
    n_images: int
    n_images_hit: int
    n_images_other: int

    @property
    def is_of_too_few(self) -> bool:
        """Whether too few images, or too few of one kind, carry it."""
        fewest = min(self.n_images_hit, self.n_images_other)
        return self.n_images < TOO_FEW_IMAGES or fewest < TOO_FEW_OF_A_KIND


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number with its 95 % interval over images; bounds are None where nothing can be said."""

    value: float
    low: float | None
    high: float | None


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


def shares(hits: Floats, trials: Floats) -> list[Share]:
    """Return ``sum(hits) / sum(trials)`` for several kinds of hits among the same trials.

    Wilson's interval where every image has one trial; over the images where all rows or none hit; else the
    cluster-robust one.

    Args:
        hits: rows of each image that count above the line, whole numbers ``(kinds, images)``.
        trials: rows that count below the line, hits among them, ``(images,)``.
    """
    n_trials, n_images = int(trials.sum()), int(np.count_nonzero(trials))
    sums = zip(
        hits.sum(1), (hits * hits).sum(1), hits @ trials,
        np.count_nonzero(hits, axis=1), np.count_nonzero(hits < trials, axis=1), strict=True,
    )  # fmt: skip
    trials_squared = int(trials @ trials)
    found = []
    for each in sums:
        n_hits, hits_squared, hits_by_trials, *n_of = map(int, each)
        bounds: tuple[float | None, float | None] = (None, None)
        kind = None
        if n_images > 1 and n_images == n_trials:
            bounds, kind = wilson(n_hits, n_trials), "wilson"
        elif n_images > 1 and n_hits in (0, n_trials):
            bounds, kind = wilson(n_images if n_hits else 0, n_images), "wilson over images"
        elif n_images > 1:
            # T²·Σ(h − r·t)² with r = H/T. All are whole numbers, and exact: images that are alike have no
            # spread at all, not one of 1e-17.
            errors = (
                n_trials**2 * hits_squared
                - 2 * n_trials * n_hits * hits_by_trials
                + n_hits**2 * trials_squared
            )
            variance = errors / n_trials**4 * n_images / (n_images - 1)
            if min(n_of) < TOO_FEW_OF_A_KIND:
                variance = max(variance, n_hits * (n_trials - n_hits) / n_trials**3)
            if variance:
                bounds, kind = _logit_interval(n_hits / n_trials, variance, n_images - 1), "cluster-robust"
        found.append(Share(n_hits / n_trials if n_trials else None, *bounds, kind, n_images, *n_of))
    return found


def _logit_interval(share: float, variance: float, degrees: float) -> tuple[float, float]:
    margin = t_quantile(0.975, degrees) * sqrt(variance) / (share * (1 - share))
    factor = exp(min(margin, LARGEST_MARGIN))
    return share / (share + (1 - share) * factor), share * factor / (share * factor + 1 - share)


def shares_of_rows(hits: Sequence[NDArray[np.bool_]], image: NDArray[np.int64]) -> list[Share]:
    """Return the share of all rows that hit, for several kinds of hits.

    Args:
        hits: which rows count above the line, each ``(n,)``.
        image: which image each row shows, any integers, ``(n,)``.
    """
    columns = [np.ones(len(image)), *(mask.astype(np.float64) for mask in hits)]
    sums = _sums_by_image(image, columns).T
    return shares(sums[1:], sums[0])


def ratio_of_means(above: Floats, below: Floats, image: NDArray[np.int64]) -> Estimate | None:
    """Return mean(above) / mean(below), its interval on the log scale; None where below is empty or all 0.

    Args:
        above, below: one value from 0 a row, ``(n,)``.
        image: which image each row shows, any integers, ``(n,)``.
    """
    x, y = _sums_by_image(image, [above, below]).T
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
    first, n_first, other, n_other = _sums_by_image(image, _by_kind(values, is_first)).T
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
    sums = _sums_by_image(image, _by_kind(values, is_first), bins, BINS)
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


def _sums_by_image(
    image: NDArray[np.int64],
    columns: Sequence[Floats],
    bins: NDArray[np.int64] | int = 0,
    n_bins: int = 1,
) -> Floats:
    """Return each image's sums, bin by bin for one column after the other ``(images, columns · n_bins)``."""
    images, of_row = np.unique(image, return_inverse=True)
    cell = of_row * n_bins + bins
    sums = [np.bincount(cell, column, len(images) * n_bins).reshape(-1, n_bins) for column in columns]
    return np.concatenate(sums, axis=1)
