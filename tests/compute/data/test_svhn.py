"""SVHN in its .mat files."""

import numpy as np
import scipy.io
import torch

from jsdelta_db.compute import data


def test_svhn_is_read_from_its_mat_files(small_svhn):
    """A tenth of train is the baseline split, stratified; the test set is attacked; 10 stands for 0."""
    dataset = data.load("svhn", small_svhn)
    assert [len(dataset.splits[name]) for name in ("train", "baseline", "attack")] == [180, 20, 30]
    assert np.bincount(dataset.splits["baseline"].labels.numpy()).tolist() == [2] * 10
    raw = scipy.io.loadmat(small_svhn / "test_32x32.mat")
    attack = dataset.splits["attack"]
    assert np.array_equal(raw["X"].transpose(3, 2, 0, 1), attack.images.numpy())
    assert (raw["y"][:, 0] % 10).tolist() == attack.labels.tolist()
    assert ((3, 32, 32), torch.uint8, torch.int64) == (
        dataset.image_shape, attack.images.dtype, attack.labels.dtype,
    )  # fmt: skip
