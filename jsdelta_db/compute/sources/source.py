"""A source: somebody's labelled images as they lie on the disk, read block by block."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Images = NDArray[np.uint8] | NDArray[np.float32]
ImageType = np.dtype[np.uint8] | np.dtype[np.float32]

WHOLE = "all"  # the only part of a source that is not divided into train and test
PARTS = ("train", "test")


@dataclass(frozen=True, slots=True)
class Block:
    """Images of a source, one after the other.

    Attributes:
        images: ``(n, c, h, w)``, uint8 or float32 in [0, 1]; of a broken one zeros.
        labels: int64 ``(n,)``.
        broken: why an image cannot be read, by its place in the block.
        is_grey: whether every image was stored as grey, and its channels are equal.
    """

    images: Images
    labels: NDArray[np.int64]
    broken: Mapping[int, str] = field(default_factory=dict)
    is_grey: bool = False


class Reader(Protocol):
    """A block that is still to be read; it can be pickled if its source ``reads_in_parallel``."""

    def __call__(self) -> Block:
        """Read it.

        Raises:
            DataError: an image of another size, or values that are no image.
        """


class Source(Protocol):
    """Labelled images, in parts that come one after the other."""

    @property
    def title(self) -> str:
        """The option and what it names, for messages."""

    @property
    def parts(self) -> Mapping[str, int]:
        """How many images each part has: ``train`` and ``test``, or ``all``."""

    @property
    def classes(self) -> tuple[str, ...] | None:
        """Label names in label order; None where the source has none."""

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Channels, height, width."""

    @property
    def dtype(self) -> ImageType:
        """Of the images as they are read."""

    @property
    def identity(self) -> str:
        """What changes when the source does; compared when a stopped decoding goes on."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What people should know of how it is read."""

    @property
    def reads_in_parallel(self) -> bool:
        """Whether other processes may read its blocks."""

    def block(self, start: int, stop: int) -> Reader:
        """Return the reader of some images, counted over all parts."""

    def name(self, position: int) -> str:
        """Return what people call the image at a position: its file, or its array and row."""
