"""Draws of clean images and of their pairs, for data sets with many classes: keyed, so all runs draw alike.

Logits of 25,000 images and 1,000 classes are 200 MB a model as float64, and half a million label pairs have
625 image pairs each. Up to ``MANY_CLASSES`` classes nothing is drawn.
"""

import math

import numpy as np
from numpy.typing import NDArray

from jsdelta_db.config.evaluation import MANY_CLASSES
from jsdelta_db.runtime import seeding

MOST_IMAGES = 2_000  # by which models are compared, and temperatures fitted
MOST_PAIRS = 100  # images of one label beside images of another

Rows = NDArray[np.int64]


def draws(n_classes: int) -> bool:
    """Return whether the classes are so many that clean images are drawn."""
    return n_classes > MANY_CLASSES


def draw_images(n_images: int, n_classes: int) -> Rows | slice:
    """Return the rows of images by which models are compared: all, or a draw, in their order."""
    if not draws(n_classes) or n_images <= MOST_IMAGES:
        return slice(None)
    return np.sort(seeding.order(np.arange(n_images), "clean images")[:MOST_IMAGES])


def draw_pairs(low: Rows, high: Rows) -> tuple[Rows, Rows, tuple[Rows, Rows]]:
    """Draw ``MOST_PAIRS`` pairs of the images of two labels, none twice, each image about as often as others.

    Args:
        low, high: rows of the images; there must be more pairs of them.

    Returns:
        The rows that take part, of both labels, and the places in them of each pair's images.
    """
    low, high = (seeding.order(images, "baseline")[:MOST_PAIRS] for images in (low, high))
    return low, high, _walk_diagonals(len(low), len(high))


def _walk_diagonals(n: int, m: int) -> tuple[Rows, Rows]:
    """Return rows and columns of ``MOST_PAIRS`` cells of an n × m table, along its diagonals."""
    step = np.arange(MOST_PAIRS)
    # After lcm(n, m) steps a diagonal ends where it began: the next one begins a column further on.
    return step % n, (step + step // math.lcm(n, m)) % m
