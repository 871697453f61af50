"""Counts by image: how many attempts and successes each image of a finished evaluation has, for any β.

Intervals of bug fractions count images, so a query needs these counts. Summing them anew reads as many
numbers as there are attempts; counted once, most evaluations need one bit per image.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from jsdelta_db.store.segments import Segment

MOST_ROWS = 255  # of bits, so that their sum fits into a byte

Sums = NDArray[np.int64]


class ImageCounts(NamedTuple):
    """Attempts of an evaluation by image, packed.

    Attributes:
        n_undefined: attempts without a JSΔ, of all images; only the others are counted by image.
        bits: the width of a count, 1, 8, 16 or 32.
        success, failure: counts in the order of the image numbers, up to the last that is not 0: bits from
            the highest of a byte to the lowest, or little-endian unsigned integers.
    """

    n_undefined: int
    bits: int
    success: bytes
    failure: bytes


def count_images(segments: Iterable[Segment]) -> ImageCounts:
    """Count the attempts of segments by image; their ``sample_index`` must be loaded."""
    index: dict[bool, list[NDArray[np.integer]]] = {True: [], False: []}
    n_undefined = 0
    for segment in segments:
        assert segment.sample_index is not None
        if segment.is_defined:
            index[segment.success].append(segment.sample_index)
        else:
            n_undefined += segment.n
    success, failure = (
        np.bincount(np.concatenate([np.zeros(0, np.int64), *index[reached]])) for reached in (True, False)
    )
    largest = int(max(success.max(initial=0), failure.max(initial=0)))
    bits = 1 if largest <= 1 else 8 * np.min_scalar_type(largest).itemsize
    return ImageCounts(n_undefined, bits, _pack(success, bits), _pack(failure, bits))


def sum_counts(packed: Iterable[tuple[int, bytes]]) -> Sums:
    """Return the sum ``(images,)`` of packed counts, each given with its bits."""
    alike: dict[int, list[bytes]] = {}
    for bits, counts in packed:
        alike.setdefault(bits, []).append(counts)
    sums = [_sum_alike(bits, some) for bits, some in alike.items()]
    total = np.zeros(max(map(len, sums), default=0), dtype=np.int64)
    for each in sums:
        total[: len(each)] += each
    return total


def _sum_alike(bits: int, packed: Sequence[bytes]) -> Sums:
    width = max(map(len, packed))
    joined = np.frombuffer(b"".join(counts.ljust(width, b"\0") for counts in packed), np.uint8)
    rows = joined.reshape(len(packed), width)
    if bits > 1:
        wide: Sums = rows.view(f"<u{bits // 8}").sum(axis=0, dtype=np.int64)
        return wide
    total = np.zeros(8 * width, dtype=np.int64)
    for start in range(0, len(rows), MOST_ROWS):  # in bytes: eight times as fast as in 64 bits
        total += np.unpackbits(rows[start : start + MOST_ROWS], axis=1).sum(axis=0, dtype=np.uint8)
    return total


def _pack(counts: Sums, bits: int) -> bytes:
    if bits == 1:
        return np.packbits(counts.astype(np.bool_)).tobytes()
    return counts.astype(f"<u{bits // 8}").tobytes()
