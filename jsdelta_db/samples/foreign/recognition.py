"""Recognition of the data set's own images, so that samples pair up with other attacks' image by image."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from jsdelta_db.compute.data import Dataset, Split
from jsdelta_db.records import FILE_SPLIT
from jsdelta_db.store.image_keys import SPLITS, Keys, content_key, split_keys


def find_images(
    x: Tensor, source: NDArray[np.int64], target: NDArray[np.int64], dataset: Dataset
) -> tuple[str, NDArray[np.int64]]:
    """Return the split that all images are of and their indices in it; else ``file`` and their rows."""
    for name in reversed(SPLITS):
        split = dataset.splits[name]
        found = _find_in(split, x)
        if (found < 0).any() or (split.labels.numpy()[found] != source).any():
            continue
        index = split.index[found]
        if len(set(zip(index.tolist(), target.tolist(), strict=True))) == len(x):
            return name, index
        break  # an image twice towards one label: only the row tells the two apart
    return FILE_SPLIT, np.arange(len(x), dtype=np.int64)


def key_images(x: Tensor, dataset: Dataset) -> Keys:
    """Return the keys of images that came in a file, int64 ``(n,)``; see ``store/image_keys.py``."""
    keys = np.array([content_key(_pixels(image)) for image in x])
    for name in SPLITS:
        split = dataset.splits[name]
        found = _find_in(split, x)
        keys[found >= 0] = split_keys(name, split.index[found[found >= 0]])
    return keys


def _find_in(split: Split, x: Tensor) -> NDArray[np.int64]:
    """Return the row of each image in a split, −1 where it is none of its images."""
    of_image = {_pixels(image): i for i, image in enumerate(split.batch(slice(None)))}
    return np.array([of_image.get(_pixels(image), -1) for image in x])


def _pixels(image: Tensor) -> bytes:
    """Return an image's pixels to a tenth of a level: writers round differently."""
    return bytes((image * 2550.0).round().to(torch.int16).numpy().data)
