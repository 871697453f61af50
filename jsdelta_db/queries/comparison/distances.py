"""Distances between two samples of numbers: what describes how their distributions differ, without a p."""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def kolmogorov_smirnov(one: Floats, other: Floats) -> float | None:
    """Return the largest distance between the two distribution functions; None of an empty sample."""
    if not (len(one) and len(other)):
        return None
    _, below = _steps(one, other)
    return float(np.abs(below[0] - below[1]).max())


def wasserstein(one: Floats, other: Floats) -> float | None:
    """Return the area between the distribution functions, in the numbers' unit; None of an empty sample."""
    if not (len(one) and len(other)):
        return None
    values, below = _steps(one, other)
    return float(np.abs(below[0] - below[1])[:-1] @ np.diff(values))


def _steps(one: Floats, other: Floats) -> tuple[Floats, tuple[Floats, Floats]]:
    """Return all values, ascending, and the share of each sample up to each of them."""
    values = np.sort(np.concatenate([one, other]))
    return values, (_share_up_to(one, values), _share_up_to(other, values))


def _share_up_to(sample: Floats, values: Floats) -> Floats:
    shares: Floats = np.searchsorted(np.sort(sample), values, side="right") / len(sample)
    return shares
