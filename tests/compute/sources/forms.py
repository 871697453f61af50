"""Small images in the three forms that people have them in: arrays, pictures, code."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image


def some_images(n=60, classes=3, shape=(3, 6, 6), seed=0):
    """Return ``n`` images, uint8, of which none equals another, and labels that take turns."""
    images = np.random.default_rng(seed).integers(0, 256, (n, *shape), dtype=np.uint8)
    return images, np.arange(n) % classes


def write_folder(root: Path, parts: Mapping[str, tuple[np.ndarray, np.ndarray]], names=None) -> Path:
    """Write PNGs below ``root/part/class``; a part named "" has its classes at the top."""
    for part, (images, labels) in parts.items():
        for number, (image, label) in enumerate(zip(images, labels, strict=True)):
            folder = root / part / (names[label] if names else str(label))
            folder.mkdir(parents=True, exist_ok=True)
            pixels = image[0] if image.shape[0] == 1 else image.transpose(1, 2, 0)
            Image.fromarray(pixels).save(folder / f"{number:05d}.png")
    return root


class Pictures:
    """A torchvision-style data set of Pillow's pictures."""

    def __init__(self, images, labels) -> None:
        self.images, self.labels = images, labels

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, row):
        return Image.fromarray(self.images[row].transpose(1, 2, 0)), int(self.labels[row])
