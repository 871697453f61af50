"""Foreign samples: what any other tool made, read from its files and checked before a row is made."""

from pathlib import Path

from jsdelta_db.samples.foreign.arrays import SampleArrays
from jsdelta_db.samples.foreign.checking import ForeignSamples, check_samples
from jsdelta_db.samples.foreign.images import Normalization
from jsdelta_db.samples.foreign.npz_file import read_npz
from jsdelta_db.samples.foreign.png_folder import read_folder
from jsdelta_db.samples.foreign.torch_file import read_torch

__all__ = ["ForeignSamples", "Normalization", "SampleArrays", "check_samples", "read_samples"]

TORCH_ENDINGS = (".pt", ".pth")


def read_samples(path: Path) -> SampleArrays:
    """Read samples from a folder of PNGs, a file of torch or an .npz file; never runs code from it.

    Raises:
        DataError: it cannot be read, or something is missing in it.
    """
    if path.is_dir():
        return read_folder(path)
    return read_torch(path) if path.suffix.lower() in TORCH_ENDINGS else read_npz(path)
