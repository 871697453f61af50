"""Held-out splits of known data sets: the baseline split comes out of train, and test is attacked."""

import numpy as np
from numpy.typing import NDArray

from jsdelta_db.compute.data.dataset import Split
from jsdelta_db.runtime import seeding

MOST_A_CLASS = 500  # baseline images
Labelled = tuple[NDArray[np.uint8], NDArray[np.int64]]  # images (n, c, h, w) and labels (n,)
Parts = tuple[NDArray[np.int64], ...]


def tenth_of_each_class(labels: NDArray[np.int64], key: str) -> Parts:
    """Divide indices 0..n-1 into train and baseline: of each class a tenth, at most 500, fixed by ``key``."""
    baseline = []
    for label in np.unique(labels):
        images = seeding.order(np.flatnonzero(labels == label), key)
        baseline.append(images[: min(MOST_A_CLASS, len(images) // 10)])
    chosen = np.sort(np.concatenate(baseline))
    return np.setdiff1d(np.arange(len(labels), dtype=np.int64), chosen), chosen


def hold_out(train: Labelled, test: Labelled, parts: Parts) -> dict[str, Split]:
    """Return the splits: ``parts`` are the indices of ``train`` that are trained on, and of the baseline."""
    images, labels = train
    splits = {
        name: _make_split(images[part], labels[part], part)
        for name, part in zip(("train", "baseline"), parts, strict=True)
    }
    return {**splits, "attack": _make_split(*test, np.arange(len(test[1]), dtype=np.int64))}


def _make_split(images: NDArray[np.uint8], labels: NDArray[np.int64], index: NDArray[np.int64]) -> Split:
    import torch

    return Split(torch.from_numpy(np.ascontiguousarray(images)), torch.from_numpy(labels), index)
