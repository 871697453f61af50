"""Seeding: random numbers that depend on a key alone, not on order, batch, worker or ε.

Philox is counter-based and specified bit for bit (Salmon et al. 2011), so a key names its stream
for good: an image's target and start depend on the attack's seed and the image (and the target), so
attacks on other models or at other ε pair up image by image.
"""

import hashlib

import numpy as np
from numpy.typing import NDArray


def generator(*key: int | str) -> np.random.Generator:
    """Return the generator of a key."""
    digest = hashlib.blake2b("/".join(map(str, key)).encode(), digest_size=16).digest()
    return np.random.Generator(np.random.Philox(key=np.frombuffer(digest, dtype=np.uint64)))


def order(indices: NDArray[np.int64], *key: int | str) -> NDArray[np.int64]:
    """Return the indices in a keyed random order that does not depend on which others are present.

    Each index has a rank of its own, so smaller selections are subsets of larger ones.
    """
    ranks = generator(*key).random(int(indices.max(initial=-1)) + 1)[indices]
    return indices[np.argsort(ranks, kind="stable")]
