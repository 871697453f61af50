"""A source in one .npz: ``x_train, y_train, x_test, y_test``, or ``x, y``."""

import zipfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from jsdelta_db.compute.sources.forms import as_images, as_labels, as_nchw, find_layout
from jsdelta_db.compute.sources.mapped import ArrayStream
from jsdelta_db.compute.sources.source import PARTS, WHOLE, Block, Images, Reader
from jsdelta_db.errors import DataError, first_line

BROKEN = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error, NotImplementedError)


@dataclass(frozen=True, slots=True)
class _Part:
    """The images of one part: their stream and layout, their labels, and where they begin in the source."""

    name: str
    stream: ArrayStream
    layout: str
    labels: NDArray[np.int64]
    first: int

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def image_shape(self) -> tuple[int, ...]:
        empty = np.empty((0, *self.stream.header.shape[1:]), dtype=np.uint8)
        return as_nchw(empty, self.layout).shape[1:]


class NpzSource:
    """Images and labels as arrays in one file; see :class:`jsdelta_db.compute.sources.source.Source`."""

    classes = None
    reads_in_parallel = False

    def __init__(self, path: Path) -> None:
        """Look at a file's arrays.

        Raises:
            DataError: it is no .npz, lacks arrays, or they are no images with labels.
        """
        self.title = f"--npz {path}"
        try:
            with path.open("rb") as file:
                if not zipfile.is_zipfile(file):
                    raise ValueError("it is no zip file")
            with np.load(path, allow_pickle=False) as arrays:
                self._parts = list(self._open(path, arrays))
            stat = path.stat()
        except BROKEN as error:
            reason = getattr(error, "strerror", None) or first_line(error)
            raise DataError(f"{self.title} cannot be read as a .npz ({reason})") from error
        self.parts = {part: len(each) for part, each in zip(self._names, self._parts, strict=True)}
        self.image_shape = self._find_shape()
        floats = {part.stream.header.dtype.kind == "f" for part in self._parts}
        if len(floats) > 1:
            raise DataError(f"{self.title} holds whole numbers and floats: must be of one kind")
        self.dtype = np.dtype(np.float32) if floats.pop() else np.dtype(np.uint8)
        self.identity = f"npz {stat.st_size} {stat.st_mtime_ns}"
        self.notes = tuple(
            f"{part.name} of shape {part.stream.header.shape} is read as {part.layout.upper()}"
            for part in self._parts
        )

    def block(self, start: int, stop: int) -> Reader:
        """Return the reader of some images."""
        return partial(self._read, start, stop)

    def name(self, position: int) -> str:
        """Return the array and the row of an image."""
        part = self._part_at(position)
        return f"{part.name}[{position - part.first}]"

    def _open(self, path: Path, arrays: Mapping[str, NDArray[np.generic]]) -> Iterator[_Part]:
        self._names = _find_parts(arrays, self.title)
        first = 0
        for x, y in self._names.values():
            stream = ArrayStream(path, x)
            layout = find_layout(stream.header.shape, f"{self.title}: {x}")
            labels = as_labels(np.asarray(arrays[y]), f"{self.title}: {y}", stream.header.shape[0])
            yield _Part(x, stream, layout, labels, first)
            first += len(labels)

    def _find_shape(self) -> tuple[int, int, int]:
        shapes = {part.name: part.image_shape for part in self._parts}
        if len(set(shapes.values())) > 1:
            listed = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
            raise DataError(f"{self.title} holds images of different sizes ({listed}): must be of one size")
        channels, height, width = self._parts[0].image_shape
        return channels, height, width

    def _part_at(self, position: int) -> _Part:
        return next(part for part in reversed(self._parts) if part.first <= position)

    def _read(self, start: int, stop: int) -> Block:
        images: list[Images] = []
        labels: list[NDArray[np.int64]] = []
        while start < stop:
            part = self._part_at(start)
            end = min(stop, part.first + len(part))
            images.append(self._read_part(part, start - part.first, end - part.first))
            labels.append(part.labels[start - part.first : end - part.first])
            start = end
        return Block(cast("Images", np.concatenate(images)), np.concatenate(labels))

    def _read_part(self, part: _Part, start: int, stop: int) -> Images:
        try:
            values = part.stream.rows(start, stop)
        except BROKEN as error:
            raise DataError(f"{self.title}: {part.name} cannot be read ({first_line(error)})") from error
        return as_images(as_nchw(values, part.layout), f"{self.title}: {part.name}")


def _find_parts(arrays: Mapping[str, object], title: str) -> dict[str, tuple[str, str]]:
    """Return the names of images and labels, by part.

    Raises:
        DataError: neither form is there.
    """
    divided = {part: (f"x_{part}", f"y_{part}") for part in PARTS}
    for names in (divided, {WHOLE: ("x", "y")}):
        if all(name in arrays for pair in names.values() for name in pair):
            return names
    held = ", ".join(sorted(arrays)) or "nothing"
    raise DataError(f"{title} holds {held}: must be x_train, y_train, x_test and y_test, or x and y")
