"""Differences of two fractions: interval, p and verdict, paired by image and over the models behind both.

What each image adds to the error of either side, subtracted, squared and summed, is the variance over images:
an image that is hard for both sides adds little. No logit and no floor: a difference may be 0.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf, sqrt
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from jsdelta_db.queries.statistics import OfModels, Share, shares, t_quantile, t_tail
from jsdelta_db.queries.statistics.fractions import TOO_FEW_OF_A_KIND
from jsdelta_db.queries.statistics.models import COVERS, degrees_of_freedom

ROUNDING = 1e-9  # a spread that is smaller is none
LOWER, HIGHER, EQUIVALENT, UNDECIDED = "lower", "higher", "equivalent", "undecided"
SPARSE = "sparse"

Floats = NDArray[np.float64]


class Counted(NamedTuple):
    """Rows of one side by image, all whole numbers: those that hit, and all, ``(images,)``."""

    hits: Floats
    trials: Floats

    @property
    def value(self) -> float | None:
        """The fraction; None without rows."""
        total = self.trials.sum()
        return float(self.hits.sum() / total) if total else None


@dataclass(frozen=True, slots=True)
class Difference:
    """A fraction of one side minus that of another, with its 95 % interval.

    Attributes:
        value: None where a side has no rows.
        low, high: None where nothing can be said.
        p: two-sided; None without an interval, and where it is put together from those of the sides.
        inner: the 90 % interval; the 95 % one, which is wider, where that is put together.
        n_images: images with rows on either side.
        mde: the difference that would be found four times of five.
        share_models: of the variance, the part that comes from the models.
    """

    value: float | None
    n_images: int
    low: float | None = None
    high: float | None = None
    p: float | None = None
    inner: tuple[float, float] | None = None
    covers: str | None = None
    mde: float | None = None
    share_models: float | None = None
    is_sparse: bool = False

    def is_within(self, margin: float) -> bool | None:
        """Tell whether it is none, up to a margin (two one-sided tests at 5 %); None without an interval.

        Source: Schuirmann 1987, "A comparison of the two one-sided tests procedure".
        """
        return None if self.inner is None else -margin < self.inner[0] and self.inner[1] < margin

    def judge(self, margin: float | None) -> str:
        """Return what the interval says."""
        if self.low is None or self.high is None:
            return UNDECIDED
        if self.high < 0:
            return LOWER
        if self.low > 0:
            return HIGHER
        return EQUIVALENT if margin is not None and self.is_within(margin) else UNDECIDED


def find_difference(
    a: Counted, b: Counted, of_models: OfModels, of_sides: Callable[[], tuple[OfModels, OfModels]]
) -> Difference:
    """Return the difference of two sides' fractions, whose images are the same.

    Args:
        of_models: what the draw of the models adds to the variance of the difference.
        of_sides: the same of each side's own fraction; asked for where few images carry one.
    """
    n_images = int(np.count_nonzero(a.trials + b.trials))
    of_a, of_b = a.value, b.value
    if of_a is None or of_b is None:
        return Difference(None, n_images)
    value = of_a - of_b
    if n_images < 2:
        return Difference(value, n_images)
    if any(map(_is_sparse, (a, b))):
        own = [shares(s.hits[None], s.trials, [m])[0] for s, m in zip((a, b), of_sides(), strict=True)]
        return _from_sides(value, n_images, own)
    errors = _errors(a, of_a) - _errors(b, of_b)
    of_images = n_images / (n_images - 1) * float(errors @ errors)
    variance = of_images + of_models.variance
    if sqrt(variance) <= ROUNDING:
        return Difference(value, n_images)
    spread = sqrt(variance)
    degrees = degrees_of_freedom([(of_images, n_images - 1), *of_models.parts])
    low, high = _clip(value, t_quantile(0.975, degrees) * spread)
    return Difference(
        value, n_images, low, high,
        p=2 * t_tail(abs(value) / spread, degrees),
        inner=_clip(value, t_quantile(0.95, degrees) * spread),
        covers=of_models.covers,
        mde=(t_quantile(0.975, degrees) + t_quantile(0.8, degrees)) * spread,
        share_models=of_models.variance / variance,
    )  # fmt: skip


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Return the p-values adjusted for their number; None stays None and counts for nothing.

    Source: Holm 1979, "A simple sequentially rejective multiple test procedure".
    """
    order = sorted((p, place) for place, p in enumerate(p_values) if p is not None)
    adjusted: list[float | None] = [None] * len(p_values)
    largest = -inf
    for rank, (p, place) in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - rank) * p))
        adjusted[place] = largest
    return adjusted


def _is_sparse(side: Counted) -> bool:
    kinds = (side.hits > 0, side.hits < side.trials)
    return min(int(np.count_nonzero(kind)) for kind in kinds) < TOO_FEW_OF_A_KIND


def _errors(side: Counted, value: float) -> Floats:
    """Return what each image adds to the error of a side's fraction."""
    errors: Floats = (side.hits - value * side.trials) / side.trials.sum()
    return errors


def _from_sides(value: float, n_images: int, own: Sequence[Share]) -> Difference:
    """Return the difference with an interval put together from those of its sides.

    Source: Newcombe 1998, "Interval estimation for the difference between independent proportions", 10.
    """
    bounds = [(share.value, share.low, share.high) for share in own]
    if any(each is None for bound in bounds for each in bound):
        return Difference(value, n_images, is_sparse=True)
    (r_a, low_a, high_a), (r_b, low_b, high_b) = np.array(bounds, dtype=np.float64).tolist()
    low = max(value - sqrt((r_a - low_a) ** 2 + (high_b - r_b) ** 2), -1.0)
    high = min(value + sqrt((high_a - r_a) ** 2 + (r_b - low_b) ** 2), 1.0)
    covers = min((share.covers or COVERS[0] for share in own), key=COVERS.index)
    return Difference(value, n_images, low, high, inner=(low, high), covers=covers, is_sparse=True)


def _clip(value: float, margin: float) -> tuple[float, float]:
    return max(value - margin, -1.0), min(value + margin, 1.0)
