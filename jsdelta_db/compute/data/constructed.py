"""Constructed data sets: one file with the train split; all else is the root's."""

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jsdelta_db.compute.data.dataset import Dataset, Split
from jsdelta_db.errors import DataError
from jsdelta_db.runtime.files import replace_file, sha256_of_file

Arrays = dict[str, NDArray[Any]]
KEYS = ("images", "labels", "index")


def write_arrays(path: Path, arrays: Arrays) -> str:
    """Replace a .npz file atomically, and return its sha256; equal arrays give equal bytes.

    The file is written array by array: a data set of hundreds of megabytes is not copied in memory.

    Raises:
        OSError: the disk is full or the folder cannot be written; nothing is left behind.
    """
    with replace_file(path) as file:
        np.savez(file, **arrays)  # type: ignore[arg-type] # NumPy's annotations want no keywords of ours
        file.flush()
        return sha256_of_file(Path(file.name))


def read_part(path: Path) -> Arrays | None:
    """Return the arrays of a part; None if it is missing or incomplete (each array has a checksum)."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in KEYS}
    except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile):
        return None


def check_file(path: Path, sha256: str | None, name: str) -> None:
    """Verify the file of a constructed data set.

    Raises:
        DataError: it is missing or was changed.
    """
    if sha256_of_file(path) != sha256:
        state = "was changed" if path.is_file() else "is missing"
        raise DataError(
            f"dataset {name!r}: its file {path} {state}; restore it from a backup, "
            "or build another one with another --seed and --name"
        )


def open_file(path: Path, sha256: str | None, name: str, root: Dataset) -> Dataset:
    """Return a constructed data set: its train split, with the root's held-out splits and normalization.

    Args:
        root: the data set at the start of the chain of parents.

    Raises:
        DataError: the file is missing or was changed.
    """
    check_file(path, sha256, name)
    with np.load(path, allow_pickle=False) as arrays:
        return with_train_split(root, name, {key: arrays[key] for key in KEYS})


def with_train_split(root: Dataset, name: str, arrays: Arrays) -> Dataset:
    """Return the root with another train split, of arrays ``images``, ``labels`` and ``index``."""
    import torch

    train = Split(torch.from_numpy(arrays["images"]), torch.from_numpy(arrays["labels"]), arrays["index"])
    return Dataset(name, root.classes, root.mean, root.std, {**root.splits, "train": train})
