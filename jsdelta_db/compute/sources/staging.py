"""Staging: a source's images on disk in its own order, decoded block by block, so that a stop costs little.

Which split an image belongs to follows from all images' hashes, so nothing can be put in its place before
everything is decoded.
"""

import json
import os
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from jsdelta_db.compute.sources.source import Block, Images, ImageType, Reader, Source
from jsdelta_db.errors import DataError

BLOCK_BYTES, MOST_ROWS = 2**23, 1024  # of a block
MISSING, DONE, DONE_GREY = 0, 1, 2  # a block's state, one byte each
AHEAD = 2  # blocks that wait for each worker
PLAN, STATES, IMAGES, LABELS, BROKEN = "plan.json", "states.bin", "images.raw", "labels.raw", "broken.jsonl"


@dataclass(frozen=True)
class Staging:
    """The folder that a source is decoded into.

    Attributes:
        n: images of the source.
        image_shape, dtype: of an image as it is staged.
    """

    folder: Path
    n: int
    image_shape: tuple[int, int, int]
    dtype: ImageType

    @classmethod
    def open(cls, folder: Path, source: Source) -> "Staging":
        """Open the folder of a source; what is there of another source is removed."""
        staging = cls(folder, sum(source.parts.values()), source.image_shape, source.dtype)
        plan = {"identity": source.identity, "n": staging.n, "image_shape": list(staging.image_shape)}
        content = json.dumps(plan).encode()
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / PLAN).is_file() or (folder / PLAN).read_bytes() != content:
            for left in folder.iterdir():
                left.unlink()
            (folder / STATES).write_bytes(bytes(staging.n_blocks))
            for name in (IMAGES, LABELS, BROKEN):
                (folder / name).touch()
            (folder / PLAN).write_bytes(content)
        return staging

    @property
    def rows(self) -> int:
        """Images in a block."""
        size = int(np.prod(self.image_shape)) * self.dtype.itemsize
        return max(1, min(MOST_ROWS, BLOCK_BYTES // size))

    @property
    def n_blocks(self) -> int:
        """Blocks of the source."""
        return -(-self.n // self.rows)

    def span(self, block: int) -> tuple[int, int]:
        """Return the first image of a block and the first after it."""
        return block * self.rows, min(self.n, (block + 1) * self.rows)

    def missing(self) -> list[int]:
        """Return the blocks that are still to be decoded."""
        return [block for block, state in enumerate(self._states()) if state == MISSING]

    def is_grey(self) -> bool:
        """Return whether all images were stored as grey."""
        return all(state == DONE_GREY for state in self._states())

    @cached_property
    def images(self) -> Images:
        """The decoded images ``(n, c, h, w)``, mapped."""
        return np.memmap(self.folder / IMAGES, self.dtype, "r", shape=(self.n, *self.image_shape))

    @cached_property
    def labels(self) -> NDArray[np.int64]:
        """Their labels."""
        return np.fromfile(self.folder / LABELS, np.int64)

    def broken(self) -> dict[int, str]:
        """Return why images could not be read, by position."""
        lines = (self.folder / BROKEN).read_text(encoding="utf-8").splitlines()
        return dict(map(json.loads, lines))

    def write(self, block: int, decoded: Block) -> None:
        """Write one block; its state comes last."""
        start, _ = self.span(block)
        _write_at(self.folder / IMAGES, start * decoded.images[0].nbytes, decoded.images)
        _write_at(self.folder / LABELS, start * decoded.labels.itemsize, decoded.labels)
        if decoded.broken:
            with (self.folder / BROKEN).open("a", encoding="utf-8") as file:
                file.writelines(json.dumps([start + row, why]) + "\n" for row, why in decoded.broken.items())
        state = DONE_GREY if decoded.is_grey else DONE
        _write_at(self.folder / STATES, block, np.array([state], dtype=np.uint8))

    def remove(self) -> None:
        """Remove the folder."""
        self.__dict__.pop("images", None)
        for left in self.folder.iterdir():
            left.unlink()
        self.folder.rmdir()

    def _states(self) -> bytes:
        return (self.folder / STATES).read_bytes()


def decode_all(
    staging: Staging,
    source: Source,
    on_block: Callable[[int], None],
    pool: Executor | None = None,
    workers: int = 1,
) -> None:
    """Decode the blocks that are missing, by a pool's workers or here; a stop loses the blocks at work.

    Args:
        workers: of the pool.
        on_block: called with the number of images of each block that is done.

    Raises:
        DataError: see :class:`jsdelta_db.compute.sources.source.Reader`.
        OSError: the disk is full.
    """
    for block, decoded in _decode(staging, source, pool, workers):
        staging.write(block, decoded)
        on_block(len(decoded.labels))


def _decode(
    staging: Staging, source: Source, pool: Executor | None, workers: int
) -> Iterator[tuple[int, Block]]:
    missing = staging.missing()
    if pool is None:
        for block in missing:
            yield block, source.block(*staging.span(block))()
        return
    waiting = iter(missing)
    at_work: dict[Future[Block], int] = {}
    while True:
        for block in islice(waiting, AHEAD * workers - len(at_work)):
            at_work[pool.submit(_run, source.block(*staging.span(block)))] = block
        if not at_work:
            return
        done, _ = wait(at_work, return_when=FIRST_COMPLETED)
        for future in done:
            yield at_work.pop(future), future.result()


def _run(reader: Reader) -> Block:
    return reader()


def check_broken(staging: Staging, source: Source, *, skips: bool) -> NDArray[np.int64]:
    """Return the positions of images that could be read.

    Args:
        skips: leave out those that could not.

    Raises:
        DataError: there are some that could not, or nothing else; names the first.
    """
    broken = staging.broken()
    if broken and not skips:
        first = min(broken)
        more = f" and {len(broken) - 1:,} others" if len(broken) > 1 else ""
        raise DataError(
            f"{source.name(first)}{more} cannot be read ({broken[first]}); mend or remove it, "
            "or leave such images out by --skip-broken"
        )
    if len(broken) == staging.n:
        raise DataError(f"{source.title}: none of {staging.n:,} images can be read")
    return np.setdiff1d(np.arange(staging.n), np.array(list(broken), dtype=np.int64))


def _write_at(path: Path, place: int, values: NDArray[np.generic]) -> None:
    """Write values into a file and see them to the disk: a state must not survive what it speaks of."""
    with path.open("r+b") as file:
        file.seek(place)
        file.write(np.ascontiguousarray(values).data)
        file.flush()
        os.fdatasync(file.fileno())
