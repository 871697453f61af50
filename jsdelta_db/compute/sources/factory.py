"""A source made by code: one torchvision-style data set of images and labels, or a pair of them."""

import hashlib
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from jsdelta_db.compute.sources.forms import as_images, as_nchw, find_layout
from jsdelta_db.compute.sources.pictures import as_rgb
from jsdelta_db.compute.sources.source import PARTS, WHOLE, Block, Images, Reader
from jsdelta_db.errors import DataError, first_line


class FactorySource:
    """What a callable returned; see :class:`jsdelta_db.compute.sources.source.Source`."""

    reads_in_parallel = False

    def __init__(self, made: object, name: str, size: int | None = None, version: str = "") -> None:
        """Look at the first image of a data set, or of a pair of them: to train on, and to attack.

        Args:
            name: of the callable.
            size: of the images where they are Pillow's; see
                :func:`jsdelta_db.compute.sources.pictures.decode`.
            version: of the callable's code, for the identity.

        Raises:
            DataError: no data set with a length and items of an image and a label.
        """
        self.title, self._size = f"--factory {name}", size
        pair: Sequence[Any] = made if isinstance(made, tuple | list) else [made]
        if len(pair) not in (1, 2):
            raise DataError(f"{self.title} returned {len(pair)} things: must be a data set or a pair of them")
        self._sets = list(pair)
        names = PARTS if len(pair) == 2 else (WHOLE,)
        self.parts = {part: self._length(each) for part, each in zip(names, pair, strict=True)}
        classes = getattr(pair[0], "classes", None)
        named = isinstance(classes, list | tuple) and all(isinstance(each, str) for each in classes)
        self.classes = tuple(classes) if named and classes else None
        try:
            image, _, _ = self._item(0)
        except Exception as error:
            raise DataError(f"{self.title}: its first item cannot be used ({first_line(error)})") from error
        channels, height, width = image.shape
        self.image_shape = (channels, height, width)
        self.dtype = np.dtype(np.uint8) if image.dtype == np.uint8 else np.dtype(np.float32)
        sizes = ",".join(map(str, self.parts.values()))
        self.identity = (
            f"factory {name} {size} {sizes} {version} {hashlib.sha256(image.tobytes()).hexdigest()}"
        )
        self.notes = (f"its items are {self.dtype} of shape {self.image_shape}",)

    def block(self, start: int, stop: int) -> Reader:
        """Return the reader of some items."""
        return partial(self._read, start, stop)

    def name(self, position: int) -> str:
        """Return the part and the number of an item."""
        part, row = self._place(position)
        return f"item {row} of {list(self.parts)[part]}"

    def _place(self, position: int) -> tuple[int, int]:
        first = next(iter(self.parts.values()))
        return (0, position) if position < first else (1, position - first)

    def _length(self, dataset: object) -> int:
        try:
            length = len(dataset)  # type: ignore[arg-type] # whatever the user's code returned
        except Exception as error:
            raise DataError(
                f"{self.title} returned {type(dataset).__name__}: must be a data set with a length, "
                "whose items are (image, label)"
            ) from error
        if length < 1:
            raise DataError(f"{self.title} returned an empty data set")
        return length

    def _item(self, position: int) -> tuple[Images, int, bool]:
        """Return an item's image ``(c, h, w)``, its label, and whether it was stored as grey."""
        part, row = self._place(position)
        image, label = self._sets[part][row]
        if isinstance(image, Image.Image):
            pixels, is_grey = as_rgb(image, self._size)
            return pixels.transpose(2, 0, 1), int(label), is_grey
        values: NDArray[Any] = np.asarray(image)
        layout = find_layout((1, *values.shape), "its image")
        return as_images(as_nchw(values[None], layout), "its image")[0], int(label), False

    def _read(self, start: int, stop: int) -> Block:
        images = np.zeros((stop - start, *self.image_shape), dtype=self.dtype)
        labels = np.zeros(stop - start, dtype=np.int64)
        broken: dict[int, str] = {}
        is_grey = True
        for row in range(stop - start):
            try:
                image, labels[row], one_is_grey = self._item(start + row)
            except Exception as error:  # noqa: BLE001 the user's code may raise anything
                broken[row] = first_line(error)
                continue
            is_grey &= one_is_grey
            if image.shape != self.image_shape or image.dtype != self.dtype:
                raise DataError(
                    f"{self.title}: {self.name(start + row)} is {image.dtype} of shape {image.shape}, the "
                    f"first is {self.dtype} of {self.image_shape}: must be of one size and type"
                )
            images[row] = image
        return Block(images, labels, broken, is_grey)
