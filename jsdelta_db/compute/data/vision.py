"""CIFAR-10 and SVHN through torchvision, which checks the files' md5."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from jsdelta_db.compute.data.dataset import Dataset, Split, stratified_split
from jsdelta_db.errors import DataError, first_line

CIFAR10_BASELINE = 5_000  # of the 50,000 training images
SVHN_CLASSES = tuple("0123456789")


def load_cifar10(data_dir: Path, *, download: bool = False) -> Dataset:
    """Load CIFAR-10 from the folder that holds ``cifar-10-batches-py``.

    Source: Krizhevsky 2009, "Learning Multiple Layers of Features from Tiny Images".

    Raises:
        DataError: the files are missing or damaged.
    """
    from torchvision.datasets import CIFAR10

    train, test = (
        _read("cifar10", data_dir, partial(CIFAR10, data_dir, train=part, download=download))
        for part in (True, False)
    )
    # torchvision keeps (n, 32, 32, 3); networks want channels first.
    splits = _split(
        "cifar10",
        (train.data.transpose(0, 3, 1, 2), np.asarray(train.targets, dtype=np.int64)),
        (test.data.transpose(0, 3, 1, 2), np.asarray(test.targets, dtype=np.int64)),
        CIFAR10_BASELINE,
    )
    mean, std = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
    return Dataset("cifar10", tuple(train.classes), mean, std, splits)


def load_svhn(data_dir: Path, *, download: bool = False) -> Dataset:
    """Load SVHN's cropped digits from the folder that holds ``train_32x32.mat`` and ``test_32x32.mat``.

    Source: Netzer et al. 2011, "Reading Digits in Natural Images with Unsupervised Feature Learning".

    Raises:
        DataError: the files are missing or damaged.
    """
    from torchvision.datasets import SVHN

    train, test = (
        _read("svhn", data_dir, partial(SVHN, data_dir, split=part, download=download))
        for part in ("train", "test")
    )
    splits = _split(
        "svhn",
        (train.data, train.labels.astype(np.int64)),
        (test.data, test.labels.astype(np.int64)),
        len(train.labels) // 10,
    )
    mean, std = (0.4377, 0.4438, 0.4728), (0.1980, 0.2010, 0.1970)
    return Dataset("svhn", SVHN_CLASSES, mean, std, splits)


def _read(name: str, data_dir: Path, make: Callable[[], Any]) -> Any:  # noqa: ANN401 torchvision is untyped
    try:
        return make()
    except Exception as error:
        raise DataError(
            f"dataset {name!r} is not in {data_dir} ({first_line(error)}); give the folder that holds it "
            "with --data-dir or JSDELTA_DATA_DIR, or add --download"
        ) from error


def _split(
    name: str,
    train: tuple[np.ndarray, np.ndarray],
    test: tuple[np.ndarray, np.ndarray],
    baseline_size: int,
) -> dict[str, Split]:
    """Take the baseline split out of train, stratified and fixed; test is the attack split."""
    images, labels = train
    parts = stratified_split(labels, (len(labels) - baseline_size, baseline_size), name)
    splits = {
        part_name: _make_split(images[part], labels[part], part)
        for part_name, part in zip(("train", "baseline"), parts, strict=True)
    }
    splits["attack"] = _make_split(*test, np.arange(len(test[1]), dtype=np.int64))
    return splits


def _make_split(images: np.ndarray, labels: np.ndarray, index: np.ndarray) -> Split:
    return Split(torch.from_numpy(np.ascontiguousarray(images)), torch.from_numpy(labels), index)
