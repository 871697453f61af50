"""Forms of images and labels: what arrays may look like, told apart by shape and range or refused."""

import numpy as np
from numpy.typing import NDArray

from jsdelta_db.compute.sources.source import Images
from jsdelta_db.errors import DataError

CHANNELS = (1, 3)  # grey or colour
LEVELS = 255  # of a pixel


def find_layout(shape: tuple[int, ...], name: str) -> str:
    """Return ``nchw``, ``nhwc`` or ``nhw`` (grey) for the shape of an array of images.

    Raises:
        DataError: it is none of them, or could be two.
    """
    if len(shape) == 3:
        return "nhw"
    first, last = (len(shape) == 4 and shape[axis] in CHANNELS for axis in (1, 3))
    if first and last:
        raise DataError(f"{name} of shape {shape} could be NCHW or NHWC; give images of more than 3 pixels")
    if not first and not last:
        raise DataError(
            f"{name} of shape {shape} is not valid: must be (n, c, h, w), (n, h, w, c) or (n, h, w) "
            "with 1 or 3 channels"
        )
    return "nchw" if first else "nhwc"


def as_nchw(images: NDArray[np.generic], layout: str) -> NDArray[np.generic]:
    """Return images channels first."""
    if layout == "nhw":
        return images[:, None]
    return images.transpose(0, 3, 1, 2) if layout == "nhwc" else images


def as_images(values: NDArray[np.generic], name: str) -> Images:
    """Return pixel values as uint8, or as float32 in [0, 1].

    Args:
        values: whole numbers in 0..255, or fractions in [0, 1].

    Raises:
        DataError: they are something else; says what it looks like.
    """
    if values.dtype == np.uint8:
        return np.ascontiguousarray(values, dtype=np.uint8)
    if values.dtype.kind not in "iuf":
        raise DataError(f"{name} holds {values.dtype}: must be uint8, or float in [0, 1]")
    if values.size == 0:
        return np.ascontiguousarray(values, dtype=np.float32)
    low, high = float(values.min()), float(values.max())
    if values.dtype.kind in "iu" and low >= 0 and high <= LEVELS:
        return np.ascontiguousarray(values, dtype=np.uint8)
    if values.dtype.kind == "f" and low >= 0 and high <= 1:
        return np.ascontiguousarray(values, dtype=np.float32)
    raise DataError(
        f"{name} has values of {low:g} to {high:g}{_guess(low, high)}: must be uint8, or float in [0, 1]"
    )


def _guess(low: float, high: float) -> str:
    if not (np.isfinite(low) and np.isfinite(high)):
        return ", which is not finite"
    if low < 0:
        return ", which looks normalized (undo it: x · std + mean)"
    return ", which looks like pixel levels as floats (divide by 255)" if high <= LEVELS else ""


def on_levels(images: NDArray[np.float32]) -> NDArray[np.uint8] | None:
    """Return float images as uint8 where every value is a pixel level over 255, exactly; else None."""
    levels = np.rint(images * np.float32(LEVELS)).astype(np.uint8)
    return levels if np.array_equal(levels.astype(np.float32) / np.float32(LEVELS), images) else None


def as_labels(values: NDArray[np.generic], name: str, n_images: int) -> NDArray[np.int64]:
    """Return labels as int64 ``(n,)``, from whole numbers in a row or a column.

    Raises:
        DataError: they are something else, or another number than the images.
    """
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim != 1 or values.dtype.kind not in "iu":
        raise DataError(
            f"{name} is {values.dtype} of shape {values.shape}: must be one whole number an image, from 0"
        )
    if len(values) != n_images:
        raise DataError(f"{name} holds {len(values)} labels for {n_images} images: must be one an image")
    return values.astype(np.int64)
