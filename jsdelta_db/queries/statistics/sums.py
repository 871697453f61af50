"""Sums by image: what intervals over images are computed from."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def sums_by_image(
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
