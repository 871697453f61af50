"""Data sets: images in [0, 1], labels and stable indices, by name; torch loads with the first images."""

from pathlib import Path

from jsdelta_db.compute.data.cifar import load_cifar10, load_cifar100
from jsdelta_db.compute.data.dataset import Dataset, Split
from jsdelta_db.compute.data.digits import load_digits
from jsdelta_db.compute.data.mnist import load_fashion_mnist, load_kmnist, load_mnist
from jsdelta_db.compute.data.svhn import load_svhn
from jsdelta_db.errors import UnknownNameError

__all__ = ["LOADERS", "Dataset", "Split", "load"]

LOADERS = {
    "digits": load_digits,
    "cifar10": load_cifar10,
    "svhn": load_svhn,
    "mnist": load_mnist,
    "fashion-mnist": load_fashion_mnist,
    "kmnist": load_kmnist,
    "cifar100": load_cifar100,
}


def load(name: str, data_dir: Path, *, download: bool = False) -> Dataset:
    """Load a data set; nothing is downloaded unless asked.

    Raises:
        UnknownNameError: no data set of that name.
        DataError: its files are missing or damaged.
    """
    if name not in LOADERS:
        raise UnknownNameError("dataset", name, LOADERS)
    return LOADERS[name](data_dir, download=download)
