"""Origins of images: of which split they are, and why another than the attacked one matters."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from jsdelta_db.compute.data import Dataset
from jsdelta_db.records import FILE_SPLIT

SPLITS = {  # what their images are good for
    "attack": "",
    "baseline": "on which ρ and temperatures are measured: JSΔ is not independent of them",
    "train": "which every model has seen: they say little about images that are new to them",
}
NO_SPLIT = "on which no model was measured: do contrast, size and preprocessing fit?"


def remark_on_split(split: str, n: int, total: int) -> str:
    """Return a line on images of a split that models have seen or are measured on."""
    return f"{_count(n, total)} of the {split} split, {SPLITS[split]}"


def remark_on_images(x: Tensor, split: str, dataset: Dataset) -> list[str]:
    """Return a line for each split but the attacked one that some images are of, and for those of none.

    Args:
        x: images ``(n, c, h, w)``.
        split: that all of them are of; ``file`` if they are mixed, relabelled or not the data set's.
    """
    if split != FILE_SPLIT:
        return [remark_on_split(split, len(x), len(x))] if SPLITS[split] else []
    left = _keys(x)
    lines = []
    for name, reason in SPLITS.items():
        if not len(left):
            break
        is_found = np.isin(left, _keys(dataset.splits[name].batch(slice(None))))
        if reason and is_found.any():
            lines.append(remark_on_split(name, int(is_found.sum()), len(x)))
        left = left[~is_found]
    if len(left):
        lines.append(f"{_count(len(left), len(x))} of no split of {dataset.name!r}, {NO_SPLIT}")
    return lines


def _count(n: int, total: int) -> str:
    if total == 1:
        return "the one image is"
    return f"all {total} images are" if n == total else f"{n} of {total} images {'is' if n == 1 else 'are'}"


def _keys(images: Tensor) -> NDArray[np.void]:
    """Return the pixels to a tenth of a level, one item an image: writers round differently."""
    pixels = (images * 2550.0).round().to(torch.int16).flatten(1).numpy()
    return np.ascontiguousarray(pixels).view(f"V{pixels.itemsize * pixels.shape[1]}")[:, 0]
