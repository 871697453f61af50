"""A source in a folder: one sub-folder a class, below ``train`` and ``test`` or ``val``, or at its top.

The layout of torchvision's ImageFolder; classes are numbered in the order of their names.
"""

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from jsdelta_db.compute.sources.pictures import decode
from jsdelta_db.compute.sources.source import PARTS, WHOLE, Block, Reader
from jsdelta_db.errors import DataError, first_line

ENDINGS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
HELD_OUT = ("test", "val", "valid", "validation")  # the first that is there is the test part


@dataclass(frozen=True, slots=True)
class FolderBlock:
    """Some files, to be decoded here or in another process."""

    title: str
    paths: tuple[str, ...]
    labels: NDArray[np.int64]
    image_shape: tuple[int, int, int]
    size: int | None

    def __call__(self) -> Block:
        """Decode them.

        Raises:
            DataError: an image of another size than the first of the source.
        """
        images = np.zeros((len(self.paths), *self.image_shape), dtype=np.uint8)
        broken: dict[int, str] = {}
        is_grey = True
        for row, path in enumerate(self.paths):
            try:
                picture, one_is_grey = decode(Path(path), self.size)
            except Exception as error:  # noqa: BLE001 a damaged picture may raise anything
                broken[row] = first_line(error)
                continue
            is_grey &= one_is_grey
            if picture.shape[:2] != self.image_shape[1:]:
                raise DataError(_differs(self.title, path, picture.shape[:2], self.image_shape[1:]))
            images[row] = picture.transpose(2, 0, 1)
        return Block(images, self.labels, broken, is_grey)


class FolderSource:
    """Picture files; see :class:`jsdelta_db.compute.sources.source.Source`."""

    dtype = np.dtype(np.uint8)
    reads_in_parallel = True

    def __init__(self, folder: Path, size: int | None = None) -> None:
        """Look for the files of a folder.

        Args:
            size: see :func:`jsdelta_db.compute.sources.pictures.decode`; None if all are of one size.

        Raises:
            DataError: it has no classes or no pictures.
        """
        self.title, self._size = f"--folder {folder}", size
        found = _find_parts(folder, self.title)
        first, *others = found.values()
        self.classes = tuple(_list_classes(first, self.title))
        for other in others:
            more = sorted(set(_list_classes(other, self.title)) - set(self.classes))
            if more:
                raise DataError(f"{other / more[0]} is a class that {first} does not have")
        self._paths: list[str] = []
        labels: list[int] = []
        self.parts = {}
        for part, place in found.items():
            before = len(labels)
            for label, name in enumerate(self.classes):
                files = list(_list_pictures(place / name))
                if not files and place == first:
                    raise DataError(f"class folder {place / name} holds no pictures ({', '.join(ENDINGS)})")
                self._paths += files
                labels += [label] * len(files)
            self.parts[part] = len(labels) - before
        self._labels = np.array(labels, dtype=np.int64)
        self.image_shape = self._find_shape()
        self.identity = self._identify()
        self.notes = tuple(
            f"{part}: {count:,} pictures in {place}"
            for (part, place), count in zip(found.items(), self.parts.values(), strict=True)
        )

    def block(self, start: int, stop: int) -> Reader:
        """Return the reader of some files."""
        return FolderBlock(
            self.title, tuple(self._paths[start:stop]), self._labels[start:stop], self.image_shape, self._size
        )

    def name(self, position: int) -> str:
        """Return a file's path."""
        return self._paths[position]

    def _find_shape(self) -> tuple[int, int, int]:
        """Return the shape of the first picture that can be read."""
        if self._size is not None:
            return 3, self._size, self._size
        for path in self._paths:
            try:
                height, width, channels = decode(Path(path), None)[0].shape
            except Exception:  # noqa: BLE001, S112 said when its block is read
                continue
            return channels, height, width
        raise DataError(f"{self.title}: none of {len(self._paths):,} pictures can be read")

    def _identify(self) -> str:
        digest = hashlib.sha256()
        for path in self._paths:
            stat = os.stat(path)  # noqa: PTH116 a million of them: no object for each
            digest.update(f"{path} {stat.st_size} {stat.st_mtime_ns}\n".encode(errors="surrogateescape"))
        return f"folder {self._size} {digest.hexdigest()}"


def _find_parts(folder: Path, title: str) -> dict[str, Path]:
    """Return the folders of classes, by part.

    Raises:
        DataError: there is no such folder, or half of a division.
    """
    if not folder.is_dir():
        raise DataError(f"{title} is no folder; give one that has a sub-folder for each class")
    train = folder / PARTS[0]
    held_out = next((folder / name for name in HELD_OUT if (folder / name).is_dir()), None)
    if train.is_dir() and held_out is not None:
        return {PARTS[0]: train, PARTS[1]: held_out}
    if train.is_dir():
        raise DataError(
            f"{title} has train but neither test nor val; give {train} itself to have it divided 60/20/20"
        )
    return {WHOLE: folder}


def _list_classes(folder: Path, title: str) -> list[str]:
    names = sorted(
        entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith(".")
    )
    if not names:
        raise DataError(f"{title}: {folder} has no sub-folders; it must have one for each class")
    return names


def _list_pictures(folder: Path) -> Iterator[str]:
    """Yield the pictures of a class folder and of those below it, in a fixed order."""
    for place, folders, files in os.walk(folder, followlinks=True):
        folders.sort()
        for name in sorted(files):
            if name.lower().endswith(ENDINGS) and not name.startswith("."):
                yield os.path.join(place, name)  # noqa: PTH118 a million of them


def _differs(title: str, path: str, shape: tuple[int, ...], first: tuple[int, ...]) -> str:
    one, other = (f"{width}×{height}" for height, width in (shape, first))
    return (
        f"{title}: {path} is {one} and the first picture {other}: must be of one size, "
        f"or add --size {min(first)}"
    )
