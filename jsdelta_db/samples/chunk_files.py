"""Chunk files: arrays of some attempts as one .npz, verified by its hash when it is read.

Images that are not the data set's own (``split`` "file") are in the files beside their samples.
"""

import io
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.npyio import NpzFile
from numpy.typing import NDArray

from jsdelta_db.errors import CheckpointError
from jsdelta_db.runtime.files import read_verified, write_atomically

Key = tuple[int, int]  # sample_index and requested_target
Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file as a row names it: its place in the workspace, and the sha256 of its content."""

    uri: str
    sha256: str


def write_chunk_file(path: Path, arrays: Arrays, *, compressed: bool = False) -> str:
    """Write arrays and return the file's sha256; equal arrays give equal bytes.

    NumPy's own level of compression costs four times as much, for a tenth less.
    """
    buffer = io.BytesIO()
    kind = zipfile.ZIP_DEFLATED if compressed else zipfile.ZIP_STORED
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, array in arrays.items():
            content = io.BytesIO()
            np.lib.format.write_array(content, np.ascontiguousarray(array), allow_pickle=False)
            # Without a date of its own a ZipInfo has a fixed one.
            entry = zipfile.ZipInfo(f"{name}.npy")
            archive.writestr(entry, content.getvalue(), compress_type=kind, compresslevel=1)
    return write_atomically(path, buffer.getvalue())


def open_chunk_file(path: Path, sha256: str | None) -> NpzFile:
    """Open a file whose arrays are unpacked as they are asked for.

    Raises:
        CheckpointError: it is missing or altered.
    """
    file: NpzFile = np.load(io.BytesIO(read_verified(path, sha256)), allow_pickle=False)
    return file


def read_chunk_file(path: Path, sha256: str | None) -> Arrays:
    """Return all arrays of a file.

    Raises:
        CheckpointError: it is missing or altered.
    """
    with open_chunk_file(path, sha256) as arrays:
        return dict(arrays)


def gather(root: Path, files: Iterable[StoredFile], keys: Sequence[Key], axes: Mapping[str, int]) -> Arrays:
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
        with open_chunk_file(root / file.uri, file.sha256) as chunk:
            in_file = zip(chunk["sample_index"].tolist(), chunk["requested_target"].tolist(), strict=True)
            pairs = [(row, places[key]) for row, key in enumerate(in_file) if key in places]
            if not pairs:
                continue
            rows, targets = np.array(pairs).T
            for name, axis in axes.items():
                part = np.moveaxis(chunk[name], axis, 0)
                if name not in found:
                    found[name] = np.empty((len(keys), *part.shape[1:]), part.dtype)
                found[name][targets] = part[rows]
            left -= len(pairs)
    if left:
        raise CheckpointError(f"{left} samples are in none of their files; see jsdelta db check")
    return {name: np.moveaxis(array, 0, axes[name]) for name, array in found.items()}
