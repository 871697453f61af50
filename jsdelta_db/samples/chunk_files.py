"""Files that rows point to, read back: verified by their hash, and gathered by image and target."""

import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jsdelta_db.errors import CheckpointError
from jsdelta_db.runtime.files import read_verified

Key = tuple[int, int]  # sample_index and requested_target
Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True, slots=True)
class KeptFile:
    """A file as a row names it: its place in the workspace, and the sha256 of its content."""

    uri: str
    sha256: str


def gather(root: Path, files: Iterable[KeptFile], keys: Sequence[Key], axes: Mapping[str, int]) -> Arrays:
    """Return some attempts' parts of chunk files, in the order of ``keys``.

    Args:
        axes: the arrays wanted, each with the axis that counts attempts.

    Raises:
        CheckpointError: a file is missing or altered, or none has an attempt.
    """
    places = {key: place for place, key in enumerate(keys)}
    found: Arrays = {}
    left = len(places)
    for file in files:
        if not left:
            break
        with np.load(io.BytesIO(read_verified(root / file.uri, file.sha256)), allow_pickle=False) as chunk:
            held = zip(chunk["sample_index"].tolist(), chunk["requested_target"].tolist(), strict=True)
            pairs = [(row, places[key]) for row, key in enumerate(held) if key in places]
            if not pairs:
                continue
            rows, where = np.array(pairs).T
            for name, axis in axes.items():
                part = np.moveaxis(chunk[name], axis, 0)
                if name not in found:
                    found[name] = np.empty((len(keys), *part.shape[1:]), part.dtype)
                found[name][where] = part[rows]
            left -= len(pairs)
    if left:
        raise CheckpointError(f"{left} samples are in none of the files kept of them; see jsdelta db check")
    return {name: np.moveaxis(array, 0, axes[name]) for name, array in found.items()}
