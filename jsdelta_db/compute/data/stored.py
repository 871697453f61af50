"""Stored data sets: a user's images in one file, mapped into memory and never read as a whole.

A file is hashed when it is new here, and then known by its size and time: data sets of many gigabytes open
in milliseconds.
"""

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jsdelta_db.compute.data.dataset import Dataset, Split
from jsdelta_db.compute.sources.dividing import SPLITS
from jsdelta_db.compute.sources.mapped import map_array
from jsdelta_db.errors import DataError, first_line
from jsdelta_db.runtime.stamps import has_hash


def open_stored(path: Path, facts: Mapping[str, Any]) -> Dataset:
    """Return a stored data set, its images mapped.

    Args:
        facts: of its row: ``name``, ``classes``, ``fingerprint``, ``sha256``, ``mean``, ``std``.

    Raises:
        DataError: the file is missing, or is not the one that was stored.
    """
    name = str(facts["name"])
    check_stored(path, facts["sha256"], name)
    try:
        mean, std = (tuple(float(value) for value in facts[key]) for key in ("mean", "std"))
        splits = _map_splits(path)
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
        raise DataError(_explain(path, name, f"cannot be read ({first_line(error)})")) from error
    fingerprint = facts["fingerprint"]
    return Dataset(name, tuple(facts["classes"]), mean, std, splits, recorded_fingerprint=fingerprint)


def check_stored(path: Path, sha256: str, name: str) -> None:
    """Verify the file of a stored data set: by its size and time, or by its content where these are new.

    Raises:
        DataError: it is missing or was changed.
    """
    if not has_hash(path, sha256):
        raise DataError(_explain(path, name, "was changed" if path.is_file() else "is missing"))


def _map_splits(path: Path) -> dict[str, Split]:
    import torch

    images = map_array(path, "images")
    with np.load(path, allow_pickle=False) as arrays:
        labels, sizes = arrays["labels"], arrays["sizes"].tolist()
    splits, start = {}, 0
    for name, size in zip(SPLITS, sizes, strict=True):
        rows = slice(start, start + size)
        if size:
            index = np.arange(start, start + size, dtype=np.int64)
            splits[name] = Split(torch.from_numpy(images[rows]), torch.from_numpy(labels[rows]), index)
        start += size
    return splits


def _explain(path: Path, name: str, state: str) -> str:
    advice = "restore it from a backup, or add it again from its source"
    return f"dataset {name!r}: its file {path} {state}; {advice}"
