"""Image keys: numbers of images that came in a file, equal wherever the same image came from.

An image of the data set has the key of its split and index, so that a file's samples pair up with those of
every other attack on it; any other image has one from its content. An attack's row keeps them
(``attack.image_keys``) by the number of the image in its file: intervals count images, not rows.
"""

import hashlib

import numpy as np
from numpy.typing import NDArray

SPLITS = ("train", "baseline", "attack")  # places are stored: new ones come last
INDEX_BITS = 26  # of an image's index in its split
KEY = np.dtype("<i8")

Keys = NDArray[np.int64]


def split_keys(split: str, sample_index: NDArray[np.integer]) -> Keys:
    """Return the keys, from 0, of images of a data set's split."""
    return np.asarray((SPLITS.index(split) << INDEX_BITS) + sample_index.astype(np.int64))


def count_by_split(keys: Keys) -> dict[str, int]:
    """Return how many keys are of images of each split; "" for those of none."""
    counts = np.bincount(np.where(keys < 0, 0, 1 + (keys >> INDEX_BITS)), minlength=1 + len(SPLITS))
    return dict(zip(("", *SPLITS), counts.tolist(), strict=True))


def content_key(pixels: bytes) -> int:
    """Return the key, below 0, of an image that no split of the data set has."""
    return -1 - (int.from_bytes(hashlib.sha256(pixels).digest()[:8], "little") >> 1)


def pack_keys(keys: Keys) -> bytes:
    """Return keys as they are stored."""
    return keys.astype(KEY).tobytes()


def unpack_keys(packed: bytes) -> Keys:
    """Return stored keys."""
    return np.frombuffer(packed, KEY).astype(np.int64)
