"""SVHN's cropped digits through torchvision, which checks the files' md5."""

from functools import partial
from pathlib import Path

import numpy as np

from jsdelta_db.compute.data.dataset import Dataset, stratified_split
from jsdelta_db.compute.data.held_out import hold_out
from jsdelta_db.compute.data.published_files import has_md5, read_published

CLASSES = tuple("0123456789")


def load_svhn(data_dir: Path, *, download: bool = False) -> Dataset:
    """Load SVHN's cropped digits from the folder that holds ``train_32x32.mat`` and ``test_32x32.mat``.

    Source: Netzer et al. 2011, "Reading Digits in Natural Images with Unsupervised Feature Learning".

    Raises:
        DataError: the files are missing or damaged.
    """
    from torchvision.datasets import SVHN

    listed = [SVHN.split_list[part][1:] for part in ("train", "test")]
    files = [(file, has_md5(md5)) for file, md5 in listed]
    train, test = (
        read_published("svhn", data_dir, files, partial(SVHN, data_dir, split=part, download=download))
        for part in ("train", "test")
    )
    size = len(train.labels) // 10
    splits = hold_out(
        (train.data, train.labels.astype(np.int64)),
        (test.data, test.labels.astype(np.int64)),
        stratified_split(train.labels.astype(np.int64), (len(train.labels) - size, size), "svhn"),
    )
    mean, std = (0.4377, 0.4438, 0.4728), (0.1980, 0.2010, 0.1970)
    return Dataset("svhn", CLASSES, mean, std, splits)
