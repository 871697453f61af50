"""Stored data sets: a user's images in one file, mapped into memory and never read as a whole.

A file is hashed when it is new here, and then known by its size and time, which stand beside it: data sets
of many gigabytes open in milliseconds.
"""

import json
import zipfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch

from jsdelta_db.compute.data.dataset import Dataset, Split
from jsdelta_db.compute.sources.dividing import SPLITS
from jsdelta_db.compute.sources.mapped import map_array
from jsdelta_db.errors import DataError
from jsdelta_db.runtime.files import sha256_of_file, write_atomically


def open_stored(path: Path, facts: Mapping[str, Any]) -> Dataset:
    """Return a stored data set, its images mapped.

    Args:
        facts: of its row: ``name``, ``classes``, ``fingerprint``, ``sha256``, ``mean``, ``std``.

    Raises:
        DataError: the file is missing, or is not the one that was stored.
    """
    check_stored(path, facts["sha256"], facts["name"])
    try:
        images = map_array(path, "images")
        with np.load(path, allow_pickle=False) as arrays:
            labels, sizes = arrays["labels"], arrays["sizes"]
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise DataError(_explain(path, facts["name"], "cannot be read")) from error
    splits = {}
    start = 0
    for name, size in zip(SPLITS, sizes.tolist(), strict=True):
        rows = slice(start, start + size)
        if size:
            index = np.arange(start, start + size, dtype=np.int64)
            splits[name] = Split(torch.from_numpy(images[rows]), torch.from_numpy(labels[rows]), index)
        start += size
    return Dataset(
        facts["name"], tuple(facts["classes"]), tuple(facts["mean"]), tuple(facts["std"]), splits,
        recorded_fingerprint=facts["fingerprint"],
    )  # fmt: skip


def check_stored(path: Path, sha256: str, name: str) -> None:
    """Verify the file of a stored data set: by its size and time, or by its content where these are new.

    Raises:
        DataError: it is missing or was changed.
    """
    if not path.is_file():
        raise DataError(_explain(path, name, "is missing"))
    if _read_stamp(path) == _stamp(path, sha256):
        return
    if sha256_of_file(path) != sha256:
        raise DataError(_explain(path, name, "was changed"))
    write_stamp(path, sha256)


def write_stamp(path: Path, sha256: str) -> None:
    """Note that a file with its present size and time has a hash."""
    with suppress(OSError):  # a folder that is not ours: hashed again next time
        write_atomically(stamp_path(path), (json.dumps(_stamp(path, sha256)) + "\n").encode())


def stamp_path(path: Path) -> Path:
    """Return where a file's size and time are noted."""
    return path.with_name(f"{path.name}.stamp")


def _stamp(path: Path, sha256: str) -> dict[str, Any]:
    stat = path.stat()
    return {"size": stat.st_size, "mtime_ns": stat.st_mtime_ns, "sha256": sha256}


def _read_stamp(path: Path) -> object:
    try:
        return json.loads(stamp_path(path).read_bytes())
    except (OSError, ValueError):
        return None


def _explain(path: Path, name: str, state: str) -> str:
    advice = "restore it from a backup, or add it again from its source"
    return f"dataset {name!r}: its file {path} {state}; {advice}"
