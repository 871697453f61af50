"""The finish of a decoded source: forms settled, images divided, and one file written."""

import math
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

import numpy as np
from numpy.typing import NDArray

from jsdelta_db.compute.sources.dividing import SPLITS, Division, Rules, divide, hash_images
from jsdelta_db.compute.sources.forms import on_levels
from jsdelta_db.compute.sources.source import Images, ImageType, Source
from jsdelta_db.compute.sources.staging import Staging
from jsdelta_db.errors import DataError
from jsdelta_db.runtime.files import replace_file, sha256_of_file

DIGEST = 32  # bytes of a sha256
LONGEST_CLASS = 200  # characters


@dataclass(frozen=True, slots=True)
class Settled:
    """Staged images in the form in which they are stored.

    Attributes:
        is_grey: keep the first of three equal channels.
        is_levels: floats become uint8, each being a pixel level over 255.
    """

    staging: Staging
    is_grey: bool
    is_levels: bool

    @classmethod
    def of(cls, staging: Staging) -> "Settled":
        """Look at all images."""
        is_float = staging.dtype == np.float32
        blocks = (staging.images[slice(*staging.span(block))] for block in range(staging.n_blocks))
        is_levels = is_float and all(on_levels(np.asarray(each, np.float32)) is not None for each in blocks)
        return cls(staging, staging.is_grey() and staging.image_shape[0] == 3, is_levels)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Channels, height and width."""
        channels, height, width = self.staging.image_shape
        return (1 if self.is_grey else channels), height, width

    @property
    def dtype(self) -> ImageType:
        """Type of the stored values."""
        return np.dtype(np.uint8) if self.is_levels else self.staging.dtype

    def images(self, rows: NDArray[np.int64] | slice) -> Images:
        """Return some images, ``(n, c, h, w)``."""
        images: Images = self.staging.images[rows]
        if self.is_grey:
            images = images[:, :1]
        if self.is_levels:
            images = np.rint(images * np.float32(255)).astype(np.uint8)
        return cast("Images", np.ascontiguousarray(images))

    def blocks(self, rows: NDArray[np.int64]) -> Iterator[Images]:
        """Yield images block by block."""
        for start in range(0, len(rows), self.staging.rows):
            yield self.images(rows[start : start + self.staging.rows])


def name_classes(source: Source, labels: NDArray[np.int64], given: tuple[str, ...] | None) -> tuple[str, ...]:
    """Return the class names: as given, as the source has them, or the labels' numbers.

    Raises:
        DataError: labels out of range, one class only, or names that cannot be shown.
    """
    names = given or source.classes
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or (names is None and low > 0):
        raise DataError(f"{source.title} has labels of {low} to {high}: must be whole numbers from 0")
    names = names or tuple(map(str, range(high + 1)))
    if high >= len(names):
        raise DataError(
            f"{source.title} has labels up to {high} and {len(names)} class names: "
            f"must be 0 to {len(names) - 1}"
        )
    if len(np.unique(labels)) < 2:
        raise DataError(f"{source.title} has images of one class only ({names[low]}): must be two or more")
    if len(set(names)) < len(names):
        repeated = next(name for name in names if names.count(name) > 1)
        raise DataError(f"class name {repeated!r} is there twice: must be one a class")
    for name in names:
        if not name.strip() or not name.isprintable() or len(name) > LONGEST_CLASS:
            raise DataError(
                f"class name {name[:50]!r} is not valid: must be 1 to {LONGEST_CLASS} printable characters"
            )
    return names


def divide_all(
    settled: Settled, kept: NDArray[np.int64], source: Source, classes: tuple[str, ...], rules: Rules
) -> Division:
    """Divide the images that could be read; see :func:`jsdelta_db.compute.sources.dividing.divide`.

    Args:
        kept: their positions.
    """
    digests = np.zeros((settled.staging.n, DIGEST), dtype=np.uint8)
    start = 0
    for images in settled.blocks(kept):
        digests[kept[start : start + len(images)]] = hash_images(images)
        start += len(images)
    ends = np.cumsum(list(source.parts.values()))
    part_of = np.searchsorted(ends, kept, side="right")
    parts = {name: kept[part_of == number] for number, name in enumerate(source.parts)}
    return divide(digests, settled.staging.labels, parts, classes, rules)


@dataclass(frozen=True, slots=True)
class Written:
    """A finished file.

    Attributes:
        mean, std: of each channel over the train split (the baseline where there is none), in [0, 1].
    """

    sha256: str
    mean: tuple[float, ...]
    std: tuple[float, ...]


def write_dataset(
    path: Path, settled: Settled, division: Division, on_block: Callable[[int], None]
) -> Written:
    """Write all splits into one uncompressed .npz, block by block.

    It holds ``images`` ``(n, c, h, w)``, ``labels``, ``position`` (of each image in its source) and ``sizes``
    (of the splits train, baseline and attack, which follow each other).

    Raises:
        OSError: the disk is full; nothing is left behind.
    """
    rows = np.concatenate(list(division.rows.values()))
    sizes = np.array([len(division.rows.get(name, ())) for name in SPLITS], dtype=np.int64)
    moments = _Moments(len(next(iter(division.rows.values()))))
    with replace_file(path) as file:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
            with _new_member(archive, "images", settled.dtype, (len(rows), *settled.image_shape)) as member:
                for images in settled.blocks(rows):
                    member.write(images.data)
                    moments.add(images)
                    on_block(len(images))
            small = {"labels": settled.staging.labels[rows], "position": rows, "sizes": sizes}
            for name, array in small.items():
                with _new_member(archive, name, array.dtype, array.shape) as member:
                    member.write(np.ascontiguousarray(array).data)
        file.flush()
        sha256 = sha256_of_file(Path(file.name))
    return Written(sha256, *moments.mean_and_std())


class _Moments:
    """Mean and standard deviation of the first images, exact: the same in whatever blocks they come."""

    def __init__(self, n_images: int) -> None:
        self._left = n_images
        self._sums: list[NDArray[np.float64]] = []
        self._squares: list[NDArray[np.float64]] = []
        self._values = 0  # of a channel
        self._largest = 1.0

    def add(self, images: Images) -> None:
        """Count a block ``(n, c, h, w)``, as far as it belongs to the first images."""
        values = images[: self._left].astype(np.float64)
        if images.dtype == np.uint8:
            self._largest = 255.0
        self._left -= len(values)
        self._values += len(values) * int(np.prod(images.shape[2:]))
        self._sums.append(values.sum((2, 3)))
        self._squares.append(np.square(values).sum((2, 3)))

    def mean_and_std(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Return both of each channel, in [0, 1]; a channel without any deviation has 1."""
        sums, squares = (
            [math.fsum(channel) / self._values for channel in np.concatenate(parts).T]
            for parts in (self._sums, self._squares)
        )
        deviations = (math.sqrt(max(q - s**2, 0.0)) for q, s in zip(squares, sums, strict=True))
        return (
            tuple(each / self._largest for each in sums),
            tuple(each / self._largest or 1.0 for each in deviations),
        )


def _new_member(
    archive: zipfile.ZipFile, name: str, dtype: np.dtype[np.generic], shape: tuple[int, ...]
) -> IO[bytes]:
    """Open an array of an archive for writing, its header written."""
    member = archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True)
    header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(member, header)
    return member
