"""CIFAR-10 and SVHN through torchvision, which checks the files' md5."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from jsdelta_db.compute.data.dataset import Dataset, Split, stratified_split
from jsdelta_db.errors import DataError, first_line

CIFAR10_BASELINE = 5_000  # of the 50,000 training images
ARCHIVES = (".tar.gz", ".tgz", ".tar", ".zip")
Files = Sequence[tuple[str, str]]  # each one's path in the data folder and its md5
SVHN_CLASSES = tuple("0123456789")


def load_cifar10(data_dir: Path, *, download: bool = False) -> Dataset:
    """Load CIFAR-10 from the folder that holds ``cifar-10-batches-py``, or from that folder itself.

    Source: Krizhevsky 2009, "Learning Multiple Layers of Features from Tiny Images".

    Raises:
        DataError: the files are missing or damaged.
    """
    from torchvision.datasets import CIFAR10

    folder = CIFAR10.base_folder
    root = data_dir.parent if data_dir.name == folder and not (data_dir / folder).exists() else data_dir
    meta = (CIFAR10.meta["filename"], CIFAR10.meta["md5"])
    files = [(f"{folder}/{name}", md5) for name, md5 in (*CIFAR10.train_list, *CIFAR10.test_list, meta)]
    train, test = (
        _read("cifar10", root, files, partial(CIFAR10, root, train=part, download=download))
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

    files = [SVHN.split_list[part][1:] for part in ("train", "test")]
    train, test = (
        _read("svhn", data_dir, files, partial(SVHN, data_dir, split=part, download=download))
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


def _read(name: str, folder: Path, files: Files, make: Callable[[], Any]) -> Any:  # noqa: ANN401 untyped
    try:
        return make()
    except Exception as error:
        found = _find_fault(folder, files) or f"cannot be read from {folder}: {first_line(error)}"
        raise DataError(
            f"dataset {name!r} {found}; give the folder that holds it with --data-dir or JSDELTA_DATA_DIR, "
            "or fetch it with jsdelta train --download"
        ) from error


def _find_fault(folder: Path, files: Files) -> str:
    """Return what is wrong with a data set's files; "" if nothing is."""
    from torchvision.datasets.utils import check_integrity

    if not folder.is_dir():
        return f"was looked for in {folder}, which is no folder"
    missing = [file for file, _ in files if not (folder / file).is_file()]
    if len(missing) == len(files):
        archives = sorted(path for path in folder.iterdir() if path.name.endswith(ARCHIVES))
        inside = f"; {archives[0]} is an archive: unpack it there" if archives else ""
        return f"is not in {folder}, which has no {missing[0]}{inside}"
    if missing:
        return f"is not whole: {folder / missing[0]} is missing"
    damaged = [folder / file for file, md5 in files if not check_integrity(folder / file, md5)]
    return f"is damaged: {damaged[0]} is not the published file" if damaged else ""


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
    import torch

    return Split(torch.from_numpy(np.ascontiguousarray(images)), torch.from_numpy(labels), index)
