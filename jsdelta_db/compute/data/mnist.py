"""MNIST, Fashion-MNIST and Kuzushiji-MNIST: 28×28 in grey, through torchvision's reader of IDX files.

Only the packed files have a published md5. Where they lie beside the unpacked ones, as after a download, they
say whether these are whole and unaltered; else a file is held against the length that its header gives.
"""

import struct
import zlib
from functools import partial
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jsdelta_db.compute.data.dataset import Dataset
from jsdelta_db.compute.data.held_out import Labelled, hold_out, tenth_of_each_class
from jsdelta_db.compute.data.published_files import find_root, has_md5, read_published

DIGITS = tuple("0123456789")
PACKED = ".gz"
GZIP_END = struct.Struct("<II")  # CRC-32 of what was packed, and its length
BYTES = b"\x00\x00\x08"  # an IDX file of unsigned bytes; then the number of dimensions


def load_mnist(data_dir: Path, *, download: bool = False) -> Dataset:
    """Load MNIST from the folder that holds ``MNIST/raw``.

    Source: LeCun et al. 1998, "Gradient-Based Learning Applied to Document Recognition".

    Raises:
        DataError: the files are missing or damaged.
    """
    from torchvision.datasets import MNIST

    train, test = _read("mnist", MNIST, data_dir, download=download)
    return _divide("mnist", DIGITS, (0.1307, 0.3081), train, test)


def load_fashion_mnist(data_dir: Path, *, download: bool = False) -> Dataset:
    """Load Fashion-MNIST from the folder that holds ``FashionMNIST/raw``.

    Source: Xiao et al. 2017, "Fashion-MNIST: a Novel Image Dataset for Benchmarking Machine Learning".

    Raises:
        DataError: the files are missing or damaged.
    """
    from torchvision.datasets import FashionMNIST

    train, test = _read("fashion-mnist", FashionMNIST, data_dir, download=download)
    return _divide("fashion-mnist", tuple(FashionMNIST.classes), (0.2860, 0.3530), train, test)


def load_kmnist(data_dir: Path, *, download: bool = False) -> Dataset:
    """Load Kuzushiji-MNIST from the folder that holds ``KMNIST/raw``.

    Source: Clanuwat et al. 2018, "Deep Learning for Classical Japanese Literature".

    Raises:
        DataError: the files are missing or damaged.
    """
    from torchvision.datasets import KMNIST

    train, test = _read("kmnist", KMNIST, data_dir, download=download)
    return _divide("kmnist", tuple(KMNIST.classes), (0.1918, 0.3483), train, test)


def _divide(
    name: str, classes: tuple[str, ...], scale: tuple[float, float], train: Labelled, test: Labelled
) -> Dataset:
    """Return the data set; ``scale`` is mean and deviation of its pixels."""
    mean, std = scale
    splits = hold_out(train, test, tenth_of_each_class(train[1], name))
    return Dataset(name, classes, (mean,), (std,), splits)


def _read(
    name: str,
    reader: Any,  # noqa: ANN401 torchvision's class, untyped
    data_dir: Path,
    *,
    download: bool,
) -> tuple[Labelled, Labelled]:
    """Return the images and labels of train and test."""
    inner = f"{reader.__name__}/raw"
    root = find_root(data_dir, inner)
    files = [
        (f"{inner}/{packed.removesuffix(PACKED)}", partial(_is_whole, packed_md5=md5))
        for packed, md5 in reader.resources
    ]

    def make() -> tuple[Labelled, Labelled]:
        if download:
            reader(root, download=True)
        if not all(is_whole(root / file) for file, is_whole in files):
            raise ValueError("not the published files")
        return _read_part(root / inner, "train"), _read_part(root / inner, "t10k")

    parts: tuple[Labelled, Labelled] = read_published(name, root, files, make)
    return parts


def _read_part(folder: Path, part: str) -> Labelled:
    from torchvision.datasets.mnist import read_image_file, read_label_file

    images: NDArray[np.uint8] = read_image_file(folder / f"{part}-images-idx3-ubyte").numpy()
    labels: NDArray[np.int64] = read_label_file(folder / f"{part}-labels-idx1-ubyte").numpy()
    return images[:, None], labels


def _is_whole(path: Path, packed_md5: str) -> bool:
    """Tell whether an IDX file is what was packed; without the packed file, whether it has its length."""
    if not path.is_file():
        return False
    content, packed = path.read_bytes(), path.with_name(path.name + PACKED)
    if has_md5(packed_md5)(packed):
        return packed.read_bytes()[-GZIP_END.size :] == GZIP_END.pack(zlib.crc32(content), len(content))
    if len(content) < 4 or content[:3] != BYTES:
        return False
    start = 4 + 4 * content[3]
    held: int = prod(struct.unpack_from(f">{content[3]}I", content.ljust(start), 4))
    return len(content) == start + held
