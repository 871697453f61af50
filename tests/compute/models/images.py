"""Data sets of noise, for networks that need no more."""

import numpy as np
import torch

from jsdelta_db.compute.data import Dataset, Split


def noise(channels: int = 3, size: int = 32, classes: int = 10, n: int = 64) -> Dataset:
    """Return a data set of seeded noise, the same images in each split."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (n, channels, size, size), dtype=torch.uint8, generator=generator)
    split = Split(images, torch.arange(n) % classes, np.arange(n))
    names = tuple(f"class {label}" for label in range(classes))
    splits = dict.fromkeys(("train", "baseline", "attack"), split)
    return Dataset("noise", names, (0.5,) * channels, (0.25,) * channels, splits)
