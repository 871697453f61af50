"""Packed columns: a value for each evaluator in one blob a row, as little-endian float32, or null."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

FLOAT = np.dtype("<f4")
BY_EVALUATOR = ("member_js", "js_of_mean_without")  # of ``score``, in the order of the evaluators


def pack(values: NDArray[np.float32]) -> list[bytes]:
    """Return each row of ``(n, evaluators)`` as it is stored."""
    packed, width = values.astype(FLOAT).tobytes(), FLOAT.itemsize * values.shape[1]
    return [packed[start : start + width] for start in range(0, len(packed), width)]


def unpack(values: Sequence[bytes | None]) -> NDArray[np.float32]:
    """Return stored rows as ``(n, evaluators)``: NaN where there is none, ``(n, 0)`` if nowhere is one.

    A row that is cut short, as a fault of the disk may leave it, is none.
    """
    width = max((len(each) for each in values if each is not None), default=0) // FLOAT.itemsize
    size = width * FLOAT.itemsize
    if any(each is None or len(each) != size for each in values):
        missing = np.full(width, np.nan, FLOAT).tobytes()
        values = [missing if each is None or len(each) != size else each for each in values]
    joined: bytes = b"".join(each for each in values if each is not None)
    return np.frombuffer(joined, FLOAT).reshape(len(values), width)


def join_unpacked(parts: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Return parts of a column one after the other: NaN, too, where a whole part has no values."""
    width = max((part.shape[1] for part in parts), default=0)
    wide = [part if part.shape[1] == width else np.full((len(part), width), np.nan, FLOAT) for part in parts]
    return np.concatenate([np.empty((0, width), FLOAT), *wide])


def are_whole(values: Sequence[bytes | None]) -> bool:
    """Tell whether stored rows have one length, and that of whole numbers."""
    sizes = {len(each) for each in values if each is not None}
    return len(sizes) <= 1 and not any(size % FLOAT.itemsize for size in sizes)
