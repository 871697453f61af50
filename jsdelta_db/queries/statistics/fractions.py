"""Fractions: shares of rows with 95 % intervals over images, and over models where their draw is known.

What each image adds to the error of a share, squared and summed, is its variance, however the rows of an
image hang together; the spread over models left out in turn joins it, and Student's t makes an interval of
both, on the logit scale, so that no bound leaves 0..1.

Source: Liang and Zeger 1986, "Longitudinal data analysis using generalized linear models".
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, sqrt

import numpy as np
from numpy.typing import NDArray

from jsdelta_db.queries.statistics.models import IMAGES, OfModels, degrees_of_freedom
from jsdelta_db.queries.statistics.student import t_quantile
from jsdelta_db.queries.statistics.sums import Floats, sums_by_image

Z_95 = 1.959963984540054  # the standard normal's 97.5 % point
TOO_FEW_IMAGES = 30  # under which an interval is marked
TOO_FEW_OF_A_KIND = 5  # images with a hit, or with another row, under which an interval is marked
LARGEST_MARGIN = 700.0  # on a logit scale: what exp() can take


@dataclass(frozen=True, slots=True)
class Share:
    """A share of rows, ``hits / trials``, with its 95 % interval.

    Attributes:
        value: None without trials.
        low, high: None where nothing can be said: no trials, one image, or no spread at all.
        kind: of the interval: ``wilson``, ``wilson over images`` or ``cluster-robust``; None without one.
        n_images: images with trials.
        n_images_hit, n_images_other: images with a hit, and with a trial that is none; one can be both.
        covers: whose draw the interval covers: ``images``, ``images+evaluators`` or ``images+models``; None
            without one.
        share_models: of the variance, the part that comes from the models; None where only images count.
    """

    value: float | None
    low: float | None
    high: float | None
    kind: str | None
    n_images: int
    n_images_hit: int
    n_images_other: int
    covers: str | None = None
    share_models: float | None = None

    @property
    def is_of_too_few(self) -> bool:
        """Whether too few images, or too few of one kind, carry it."""
        fewest = min(self.n_images_hit, self.n_images_other)
        return self.n_images < TOO_FEW_IMAGES or fewest < TOO_FEW_OF_A_KIND


@dataclass(frozen=True, slots=True)
class _Interval:
    """Bounds with what they rest on."""

    low: float | None = None
    high: float | None = None
    kind: str | None = None
    covers: str | None = None
    share_models: float | None = None


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


def shares(hits: Floats, trials: Floats, models: Sequence[OfModels] = ()) -> list[Share]:
    """Return ``sum(hits) / sum(trials)`` for several kinds of hits among the same trials.

    Wilson's interval where every image has one trial and nothing is known of models; over the images where
    all rows or none hit; else the cluster-robust one.

    Args:
        hits: rows of each image that count above the line, whole numbers ``(kinds, images)``.
        trials: rows that count below the line, hits among them, ``(images,)``.
        models: the models' part of each kind; without it intervals are over images alone.
    """
    n_trials, n_images = int(trials.sum()), int(np.count_nonzero(trials))
    n = hits.sum(1)
    columns = (n, n, n, n, n_trials - n)
    if n_images < n_trials:
        of_kind = (np.count_nonzero(mask, axis=1) for mask in (hits, hits < trials))
        columns = (n, (hits * hits).sum(1), hits @ trials, *of_kind)
    trials_squared = int(trials @ trials)
    found = []
    for kind, each in enumerate(zip(*columns, strict=True)):
        n_hits, hits_squared, hits_by_trials, n_hit, n_other = map(int, each)
        of_models = models[kind] if models else OfModels(0)
        if n_images < 2:
            interval = _Interval()
        elif n_images == n_trials and not of_models.parts:
            interval = _Interval(*wilson(n_hits, n_trials), "wilson", of_models.covers)
        elif n_hits in (0, n_trials):
            interval = _Interval(*wilson(n_images if n_hits else 0, n_images), "wilson over images", IMAGES)
        else:
            # T²·Σ(h − r·t)² with r = H/T. All are whole numbers, and exact: images that are alike have no
            # spread at all, not one of 1e-17.
            errors = (
                n_trials**2 * hits_squared
                - 2 * n_trials * n_hits * hits_by_trials
                + n_hits**2 * trials_squared
            )
            variance = errors / n_trials**4 * n_images / (n_images - 1)
            if min(n_hit, n_other) < TOO_FEW_OF_A_KIND:
                variance = max(variance, n_hits * (n_trials - n_hits) / n_trials**3)
            interval = _cluster_robust(n_hits / n_trials, (variance, n_images - 1), of_models)
        value = n_hits / n_trials if n_trials else None
        bounds = interval.low, interval.high, interval.kind
        share_models = interval.share_models if models else None
        found.append(Share(value, *bounds, n_images, n_hit, n_other, interval.covers, share_models))
    return found


def _cluster_robust(share: float, of_images: tuple[float, int], of_models: OfModels) -> _Interval:
    """Return the interval of a share strictly between 0 and 1.

    Args:
        of_images: variance over images and its degrees of freedom.
    """
    variance = of_images[0] + of_models.variance
    if not variance:
        return _Interval()
    degrees = degrees_of_freedom([of_images, *of_models.parts])
    margin = t_quantile(0.975, degrees) * sqrt(variance) / (share * (1 - share))
    factor = exp(min(margin, LARGEST_MARGIN))
    low = share / (share + (1 - share) * factor)
    high = share * factor / (share * factor + 1 - share)
    return _Interval(low, high, "cluster-robust", of_models.covers, of_models.variance / variance)


def shares_of_rows(hits: Sequence[NDArray[np.bool_]], image: NDArray[np.int64]) -> list[Share]:
    """Return the share of all rows that hit, for several kinds of hits.

    Args:
        hits: which rows count above the line, each ``(n,)``.
        image: which image each row shows, any integers, ``(n,)``.
    """
    columns = [np.ones(len(image)), *(mask.astype(np.float64) for mask in hits)]
    sums = sums_by_image(image, columns).T
    return shares(sums[1:], sums[0])
