"""Checksums of segments and counts by image: a CRC-32 of what a query reads, checked as it is read.

The blobs of a segment have one each, since most queries load some of them only; 0 stands for a blob that is
null. The small values of all
segments of an evaluation have one together, which stands with its counts by image: so a segment that is
gone, or that a damaged value keeps out of a query, is noticed too.
"""

import struct
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import NoReturn
from zlib import crc32

from jsdelta_db.errors import StoreError

Number = float | int | None
_NAN = float("nan")
SIZE = struct.calcsize("<I")


def checksum(numbers: Sequence[Number], blobs: Iterable[bytes] = ()) -> int | None:
    """Return the CRC-32 of numbers, as doubles with NaN for None, and of blobs; None if they are no such."""
    plain = (_NAN if each is None else each for each in numbers)
    try:
        found = crc32(struct.pack(f"<{len(numbers)}d", *plain))
        for blob in blobs:
            found = crc32(blob, found)
    except (struct.error, TypeError, OverflowError):  # a damaged file may hold text in a column of numbers
        return None
    return found


def checksum_rows(rows: Iterable[Sequence[Number]]) -> int | None:
    """Return the CRC-32 of the numbers of some rows, one after the other."""
    return checksum(list(chain.from_iterable(rows)))


def pack_checksums(blobs: Sequence[bytes | None]) -> bytes:
    """Return the checksums of a segment's blobs as they are stored."""
    return struct.pack(f"<{len(blobs)}I", *(0 if blob is None else crc32(blob) for blob in blobs))


def check_blobs(evaluation_id: int, checksums: bytes, blobs: Mapping[int, bytes | None]) -> None:
    """Check the blobs that were loaded of a segment, by their places among its blobs.

    A segment from before has checksums of its first blobs alone; the others are null.

    Raises:
        StoreError: one is altered, or gone.
    """
    try:
        expected = struct.unpack(f"<{len(checksums) // SIZE}I", checksums)
        for place, blob in blobs.items():
            if (0 if blob is None else crc32(blob)) != (expected[place] if place < len(expected) else 0):
                raise_altered(evaluation_id)
    except (struct.error, TypeError):
        raise_altered(evaluation_id)


def raise_altered(evaluation_id: int) -> NoReturn:
    """Refuse the columns of an evaluation.

    Raises:
        StoreError: always.
    """
    raise StoreError(
        f"the columns of evaluation number {evaluation_id} are altered, and no query can use them; "
        "run jsdelta doctor --repair, which makes them again from its rows"
    )
