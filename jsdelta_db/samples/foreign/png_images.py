"""PNG images: 8 bits a channel, grey or colour, decoded into one array without a change to a pixel."""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from jsdelta_db.errors import DataError, first_line

GREY, COLOUR = ("1", "L", "LA"), ("RGB", "RGBA", "P")  # Pillow's names of what these hold without loss
OPAQUE = 255


def read_images(paths: Sequence[Path]) -> NDArray[np.uint8]:
    """Read PNGs of one size, uint8 ``(n, c, h, w)``: one channel if all are grey, else three.

    Raises:
        DataError: names the first that cannot be read, is of another size, transparent, or of 16 bits.
    """
    headers = [_read_header(path) for path in paths]
    width, height = headers[0][1]
    for path, (_, size) in zip(paths, headers, strict=True):
        if size != (width, height):
            raise DataError(
                f"--samples: {path} is {size[0]}×{size[1]} and {paths[0]} is {width}×{height}: "
                "must be images of one size"
            )
    is_grey = all(mode in GREY for mode, _ in headers)
    images = np.empty((len(paths), 1 if is_grey else 3, height, width), dtype=np.uint8)
    for place, path in enumerate(paths):
        images[place] = _read_pixels(path, is_grey=is_grey)
    return images


def _read_header(path: Path) -> tuple[str, tuple[int, int]]:
    with _opened(path) as image:
        if image.mode not in (*GREY, *COLOUR):
            raise DataError(
                f"--samples: {path} has pixels of kind {image.mode}: must be 8 bits a channel, grey or colour"
            )
        return image.mode, image.size


def _read_pixels(path: Path, *, is_grey: bool) -> NDArray[np.uint8]:
    with _opened(path) as image:
        if image.has_transparency_data and np.asarray(image.convert("RGBA"))[..., 3].min() < OPAQUE:
            raise DataError(f"--samples: {path} is transparent in places: must be opaque")
        pixels = np.asarray(image.convert("L" if is_grey else "RGB"))
    return pixels[None] if is_grey else pixels.transpose(2, 0, 1)


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """Open a PNG; whatever Pillow says of it, also while its pixels are decoded, names the file."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path, formats=["PNG"]) as image:
                yield image
    except DataError:
        raise
    except Exception as error:
        raise DataError(
            f"--samples: {path} cannot be read as a PNG ({first_line(error)}): must be whole"
        ) from error
