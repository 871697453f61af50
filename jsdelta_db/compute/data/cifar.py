"""CIFAR-10 and CIFAR-100 through torchvision, which checks the files' md5.

Source: Krizhevsky 2009, "Learning Multiple Layers of Features from Tiny Images".
"""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from jsdelta_db.compute.data.dataset import Dataset, stratified_split
from jsdelta_db.compute.data.held_out import Labelled, hold_out, tenth_of_each_class
from jsdelta_db.compute.data.published_files import find_root, has_md5, read_published

CIFAR10_BASELINE = 5_000  # of the 50,000 training images


def load_cifar10(data_dir: Path, *, download: bool = False) -> Dataset:
    """Load CIFAR-10 from the folder that holds ``cifar-10-batches-py``, or from that folder itself.

    Raises:
        DataError: the files are missing or damaged.
    """
    from torchvision.datasets import CIFAR10

    train, test, classes = _read("cifar10", CIFAR10, data_dir, download=download)
    parts = stratified_split(train[1], (len(train[1]) - CIFAR10_BASELINE, CIFAR10_BASELINE), "cifar10")
    mean, std = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
    return Dataset("cifar10", classes, mean, std, hold_out(train, test, parts))


def load_cifar100(data_dir: Path, *, download: bool = False) -> Dataset:
    """Load CIFAR-100, its 100 fine labels, from the folder that holds ``cifar-100-python``, or that itself.

    Raises:
        DataError: the files are missing or damaged.
    """
    from torchvision.datasets import CIFAR100

    train, test, classes = _read("cifar100", CIFAR100, data_dir, download=download)
    parts = tenth_of_each_class(train[1], "cifar100")
    mean, std = (0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)
    return Dataset("cifar100", classes, mean, std, hold_out(train, test, parts))


def _read(
    name: str,
    reader: Any,  # noqa: ANN401 torchvision's class, untyped
    data_dir: Path,
    *,
    download: bool,
) -> tuple[Labelled, Labelled, tuple[str, ...]]:
    """Return the images and labels of train and test, and the names of the classes."""
    root = find_root(data_dir, reader.base_folder)
    meta = (reader.meta["filename"], reader.meta["md5"])
    listed = (*reader.train_list, *reader.test_list, meta)
    files = [(f"{reader.base_folder}/{file}", has_md5(md5)) for file, md5 in listed]
    train, test = (
        read_published(name, root, files, partial(reader, root, train=part, download=download))
        for part in (True, False)
    )
    return _labelled(train), _labelled(test), tuple(train.classes)


def _labelled(part: Any) -> Labelled:  # noqa: ANN401 torchvision's data set, untyped
    # torchvision keeps (n, 32, 32, 3); networks want channels first.
    return part.data.transpose(0, 3, 1, 2), np.asarray(part.targets, dtype=np.int64)
