""".npz files: samples as arrays ``x``, ``x_adv``, ``label`` and, if there were targets, ``target_label``."""

import struct
import tokenize
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jsdelta_db.errors import DataError
from jsdelta_db.samples.foreign.arrays import ARRAYS, CLAIMS, NEEDED, SampleArrays, check_present

# What NumPy and zipfile raise at a file that is none, was damaged, encrypted or packed in an unknown way.
DAMAGED = (
    ValueError, zipfile.BadZipFile, zlib.error, EOFError, KeyError, TypeError, IndexError, OverflowError,
    RuntimeError, SyntaxError, struct.error, tokenize.TokenError,
)  # fmt: skip


def read_npz(path: Path) -> SampleArrays:
    """Read the arrays of an .npz file; never runs code from it.

    Raises:
        DataError: not an .npz file, an array is missing, or one holds Python objects.
    """
    advice = f"save it with numpy.savez(file, {', '.join(f'{name}=…' for name in ARRAYS)})"
    try:
        # Opened here: of a damaged file NumPy leaves its own handle open.
        with path.open("rb") as file:
            arrays = np.load(file, allow_pickle=False)
            if isinstance(arrays, np.ndarray):
                raise DataError(f"--samples {path} holds a single array; {advice}")
            found = {name: arrays[name] for name in ARRAYS if name in arrays.files}
            found |= {name: _read_claim(arrays, name) for name in CLAIMS if name in arrays.files}
            there = ", ".join(arrays.files)
    except OSError as error:
        raise DataError(
            f"--samples {path} cannot be read ({error.strerror or error}); "
            "give an .npz file, a .pt file or a folder"
        ) from error
    except MemoryError as error:
        raise DataError(f"--samples {path} holds an array larger than this machine's memory") from error
    except DAMAGED as error:
        if "pickle" in str(error).lower() or "object" in str(error).lower():
            raise DataError(
                f"--samples {path} holds pickled objects, which could run code; save plain arrays"
            ) from error
        raise DataError(f"--samples {path} is not a readable .npz file; {advice}") from error
    no_arrays = [name for name, array in found.items() if not isinstance(array, np.ndarray)]
    if no_arrays:
        raise DataError(f"--samples {path}: {no_arrays[0]} is no array; {advice}")
    check_present(found, NEEDED, f"--samples {path}", advice, there)
    return SampleArrays(**found)


def _read_claim(arrays: Mapping[str, NDArray[Any]], name: str) -> NDArray[Any]:
    """Return a claim; in place of one that is pickled, such as None, an array that holds nothing."""
    try:
        return arrays[name]
    except ValueError:
        return np.array(None)
