"""Pictures decoded as torchvision's folder reader does, and made one size."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

GREY = ("L", "1", "LA")  # modes of Pillow
WIDE = ("I", "F", "I;16", "I;16B", "I;16L", "I;16N")  # more than 8 bits: made RGB they would be cut


def decode(path: Path, size: int | None) -> tuple[NDArray[np.uint8], bool]:
    """Return a picture as RGB ``(h, w, 3)``, and whether it was stored as grey.

    Args:
        size: of the square that is cut from its middle, once its shorter side has that length.

    Raises:
        Exception: Pillow's own; ValueError for more than 8 bits a channel.
    """
    with Image.open(path) as picture:
        return as_rgb(picture, size)


def as_rgb(picture: Image.Image, size: int | None) -> tuple[NDArray[np.uint8], bool]:
    """Return a picture that is open already; see :func:`decode`."""
    if picture.mode in WIDE:
        raise ValueError(f"it has more than 8 bits a channel (mode {picture.mode})")
    is_grey = picture.mode in GREY
    whole = picture.convert("RGB")
    return np.asarray(whole if size is None else resize_and_crop(whole, size)), is_grey


def resize_and_crop(picture: Image.Image, size: int) -> Image.Image:
    """Resize the shorter side to ``size``, bilinearly, and cut the middle out.

    Equal to torchvision's Resize and CenterCrop of pictures.
    """
    width, height = picture.size
    longer = int(size * max(width, height) / min(width, height))
    resized = (longer, size) if width > height else (size, longer)
    if resized != picture.size:
        picture = picture.resize(resized, Image.Resampling.BILINEAR)
    left, top = (round((length - size) / 2.0) for length in resized)
    return picture.crop((left, top, left + size, top + size))
