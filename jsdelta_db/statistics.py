"""Intervals for fractions; NumPy only, because the queries start with it."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Z_95 = 1.959963984540054  # the standard normal's 97.5 % point
BOOTSTRAP_DRAWS = 2_000
BOOTSTRAP_SEED = 2601_00577
DRAWS_AT_ONCE = 4_000_000  # resampled images held at once: 32 MB


@dataclass(frozen=True, slots=True)
class Interval:
    """A 95 % interval and how it was made: ``wilson``, ``bootstrap`` or ``wilson over images``."""

    low: float
    high: float
    kind: str


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


class FractionIntervals:
    """Intervals for fractions of one group of rows, several of which may show the same image.

    Where each image appears once the rows are independent, and Wilson's interval holds. Else whole
    images are resampled: 2,000 draws of per-image sums, seeded, so that the same rows always give
    the same interval.

    Args:
        image: which image each row shows, any integers, ``(n,)``.
    """

    def __init__(self, image: NDArray[np.int64]) -> None:
        self._images, self._of_row = np.unique(image, return_inverse=True)
        self.one_row_per_image = len(self._images) == len(image)

    def interval(self, hits: NDArray[np.bool_], trials: NDArray[np.bool_]) -> Interval | None:
        """Return the interval of ``sum(hits) / sum(trials)``; None without trials.

        Args:
            hits: rows that count above the line, each of which counts below it too, ``(n,)``.
            trials: rows that count below the line, ``(n,)``.
        """
        n_hits, n_trials = int(hits.sum()), int(trials.sum())
        if n_trials == 0:
            return None
        if self.one_row_per_image:
            return Interval(*wilson(n_hits, n_trials), kind="wilson")
        if n_hits in (0, n_trials):
            # Every draw would say the same; images, not rows, are what is independent.
            images = len(np.unique(self._of_row[trials]))
            return Interval(*wilson(images if n_hits else 0, images), kind="wilson over images")
        sums = np.stack(
            [
                np.bincount(self._of_row, mask, len(self._images)).astype(np.float32)
                for mask in (hits, trials)
            ],
            axis=1,
        )
        drawn = resampled_sums(sums).astype(np.float64)
        with np.errstate(invalid="ignore"):  # a draw without trials says nothing, and is left out
            fractions = drawn[:, 0] / drawn[:, 1]
        low, high = np.nanpercentile(fractions, [2.5, 97.5])
        return Interval(float(low), float(high), kind="bootstrap")


def resampled_sums(sums: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return column sums over images drawn with replacement, ``(draws, columns)``.

    Args:
        sums: per-image sums ``(images, columns)``.
    """
    images = len(sums)
    if images * BOOTSTRAP_DRAWS <= DRAWS_AT_ONCE:
        return _weights(images) @ sums
    rng = np.random.default_rng(BOOTSTRAP_SEED)
    block = max(1, DRAWS_AT_ONCE // images)
    sizes = [min(block, BOOTSTRAP_DRAWS - start) for start in range(0, BOOTSTRAP_DRAWS, block)]
    return np.concatenate([_draw_weights(rng, size, images) @ sums for size in sizes])


@lru_cache(maxsize=4)
def _weights(images: int) -> NDArray[np.float32]:
    """Return all draws for a number of images: the groups of one query mostly share it."""
    return _draw_weights(np.random.default_rng(BOOTSTRAP_SEED), BOOTSTRAP_DRAWS, images)


def _draw_weights(rng: np.random.Generator, draws: int, images: int) -> NDArray[np.float32]:
    """Return how often each image is drawn, ``(draws, images)``: whole numbers, exact in float32."""
    chosen = rng.integers(0, images, (draws, images)) + images * np.arange(draws)[:, None]
    return np.bincount(chosen.ravel(), minlength=draws * images).reshape(draws, images).astype(np.float32)
