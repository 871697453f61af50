"""Data sets in memory: one tensor per split."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from jsdelta_db.runtime import seeding

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class Split:
    """Images of one split, as stored: uint8 in 0..255 or float32 in [0, 1].

    Attributes:
        images: ``(n, c, h, w)``.
        labels: int64 ``(n,)``.
        index: stable index of each image in its source, int64 ``(n,)``, ascending.
    """

    images: "Tensor"
    labels: "Tensor"
    index: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.index)

    def rows_of(self, sample_index: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the rows of the images with these stable indices."""
        return np.asarray(np.searchsorted(self.index, sample_index))

    def batch(self, rows: NDArray[np.int64] | slice) -> "Tensor":
        """Return images as float32 in [0, 1], ``(n, c, h, w)``."""
        import torch

        return as_unit_range(self.images[rows if isinstance(rows, slice) else torch.from_numpy(rows)])


@dataclass(frozen=True, slots=True)
class Dataset:
    """A data set with its splits ``train``, ``baseline`` and ``attack``.

    Attributes:
        classes: label names, in label order.
        mean, std: per channel, in [0, 1]: the networks' normalization.
        splits: without ``train`` where images are only there to be attacked.
        recorded_fingerprint: of a user's data set, from when it was stored.
    """

    name: str
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    splits: Mapping[str, Split]
    recorded_fingerprint: str | None = None

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of an image."""
        channels, height, width = self.splits["baseline"].images.shape[1:]
        return channels, height, width

    def fingerprint(self) -> str:
        """Hash every image, label and index of every split (sha256, 64 hex digits)."""
        if self.recorded_fingerprint is not None:
            return self.recorded_fingerprint
        digest = hashlib.sha256(repr((self.name, self.classes)).encode())
        for name, split in sorted(self.splits.items()):
            digest.update(f"{name} {tuple(split.images.shape)} {split.images.dtype}".encode())
            for array in (split.images.numpy(), split.labels.numpy(), split.index):
                digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()


def find_range(split: Split) -> tuple[float, float]:
    """Return the least and the largest value of a split's images; nan where one is not finite.

    Pixel levels are not looked at: uint8 has no others than those in [0, 1], and may be mapped.
    """
    import torch

    if split.images.dtype == torch.uint8:
        return 0.0, 1.0
    low, high = split.images.aminmax()
    return float(low), float(high)


def as_unit_range(images: "Tensor") -> "Tensor":
    """Return stored images as float32 in [0, 1], the same values on every device."""
    import torch

    if images.dtype != torch.uint8:
        return images.to(torch.float32)
    # CUDA multiplies by the reciprocal of a plain number, which rounds otherwise; by a tensor it divides.
    return images.to(torch.float32).div_(torch.full((), 255.0, device=images.device))


def stratified_split(
    labels: NDArray[np.int64], sizes: tuple[int, ...], key: str
) -> tuple[NDArray[np.int64], ...]:
    """Divide indices 0..n-1 into parts of the given sizes, each with the classes in proportion.

    Fixed by ``key`` alone, whatever the library versions. Sizes must add up to ``n``.
    """
    classes = np.unique(labels)
    lines = [seeding.order(np.flatnonzero(labels == label), key) for label in classes]
    parts: list[NDArray[np.int64]] = []
    for size in sizes:
        left = np.array([len(line) for line in lines])
        take = _proportional(left, size)
        parts.append(np.sort(np.concatenate([line[:k] for line, k in zip(lines, take, strict=True)])))
        lines = [line[k:] for line, k in zip(lines, take, strict=True)]
    return tuple(parts)


def _proportional(counts: NDArray[np.int64], size: int) -> NDArray[np.int64]:
    """Divide ``size`` in proportion to ``counts`` (largest remainders, the lower label first)."""
    exact = counts * (size / counts.sum())
    take: NDArray[np.int64] = np.floor(exact).astype(np.int64)
    most_wanting = np.argsort(take - exact, kind="stable")[: size - take.sum()]
    take[most_wanting] += 1
    return take
