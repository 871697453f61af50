"""Data sets: the embedded digits, fingerprints and splits."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from jsdelta_db.compute import data
from jsdelta_db.compute.data import Split
from jsdelta_db.compute.data.dataset import as_unit_range, stratified_split
from jsdelta_db.errors import UnknownNameError

NOWHERE = Path("nowhere")


@pytest.fixture(scope="module")
def digits():
    return data.load("digits", NOWHERE)


# ---- digits


def test_digits_have_the_sizes_of_the_design(digits):
    """897 to train, 300 for baselines, 600 to attack; one channel of 8×8, ten classes."""
    assert {k: len(v) for k, v in digits.splits.items()} == {"train": 897, "baseline": 300, "attack": 600}
    assert digits.image_shape == (1, 8, 8)
    assert tuple("0123456789") == digits.classes


def test_digits_splits_are_disjoint_and_complete(digits):
    """Each of the 1,797 images is in exactly one split, and each split is in ascending order."""
    indices = [split.index for split in digits.splits.values()]
    assert list(range(1797)) == sorted(np.concatenate(indices).tolist())
    assert all((np.diff(index) > 0).all() for index in indices)


def test_digits_splits_are_stratified(digits):
    """Each split holds each class in proportion, to within one image."""
    counts = {name: np.bincount(split.labels.numpy()) for name, split in digits.splits.items()}
    total = sum(counts.values())
    for name, split in digits.splits.items():
        assert np.abs(counts[name] - total * len(split) / 1797).max() <= 1


def test_digits_are_shown_at_an_eighth_of_contrast(digits):
    """Pixels are float32 in 0.4375..0.5625, around mid-grey, and both ends occur."""
    for split in digits.splits.values():
        assert torch.float32 == split.images.dtype
        assert (float(split.images.min()), float(split.images.max())) == (0.4375, 0.5625)


def test_digits_images_belong_to_their_labels(digits):
    """Stable indices point at scikit-learn's own images and labels."""
    from sklearn.datasets import load_digits

    bundle = load_digits()
    for split in digits.splits.values():
        assert bundle.target[split.index].tolist() == split.labels.tolist()
        grey = (split.images[:, 0].double().numpy() - 0.5) * 8 + 0.5
        assert bundle.images[split.index].tolist() == (grey * 16).tolist()


def test_digits_normalization_is_that_of_the_images(digits):
    """The recorded mean and deviation are those of all images, to four digits."""
    images = torch.cat([split.images for split in digits.splits.values()]).double()
    assert (round(float(images.mean()), 4),) == digits.mean
    assert (round(float(images.std()), 4),) == digits.std


# ---- fingerprints


def test_fingerprint_is_stable(digits):
    """Loading again gives the same fingerprint."""
    assert digits.fingerprint() == data.load("digits", Path("elsewhere")).fingerprint()
    assert len(digits.fingerprint()) == 64


def _with_split(dataset, name, **changes):
    split = dataclasses.replace(dataset.splits[name], **changes)
    return dataclasses.replace(dataset, splits={**dataset.splits, name: split})


@pytest.mark.parametrize("name", ["train", "baseline", "attack"])
@pytest.mark.parametrize("what", ["images", "labels", "index"])
def test_fingerprint_sees_every_value(digits, name, what):
    """One changed pixel, label or index in any split is another data set."""
    values = getattr(digits.splits[name], what)
    changed = values.clone() if isinstance(values, torch.Tensor) else values.copy()
    changed.reshape(-1)[-1] += 1
    assert digits.fingerprint() != _with_split(digits, name, **{what: changed}).fingerprint()


def test_fingerprint_sees_names_and_order(digits):
    """Another name, other classes or other split names are another data set."""
    others = [
        dataclasses.replace(digits, name="other"),
        dataclasses.replace(digits, classes=digits.classes[::-1]),
        dataclasses.replace(digits, splits={k.upper(): v for k, v in digits.splits.items()}),
    ]
    assert len({digits.fingerprint(), *(other.fingerprint() for other in others)}) == 4
    reordered = dataclasses.replace(digits, splits=dict(reversed(digits.splits.items())))
    assert digits.fingerprint() == reordered.fingerprint()


# ---- splits


def test_rows_of_finds_stable_indices(digits):
    """Stable indices are found where they lie, in any order."""
    split = digits.splits["attack"]
    rows = np.array([599, 0, 17])
    assert rows.tolist() == split.rows_of(split.index[rows]).tolist()


@pytest.mark.parametrize("rows", [slice(2, 5), np.array([2, 3, 4])])
def test_batch_is_float32_in_unit_range(rows):
    """Stored bytes come out as float32, k/255 for each level k, and the stored ones stay."""
    images = torch.arange(256, dtype=torch.uint8).repeat(6, 1).view(6, 1, 16, 16)
    split = Split(images, torch.zeros(6, dtype=torch.int64), np.arange(6))
    batch = split.batch(rows)
    assert tuple(batch.shape) == (3, 1, 16, 16)
    assert torch.equal(torch.arange(256) / 255, batch[0].flatten())
    assert torch.uint8 == split.images.dtype
    assert int(split.images.max()) == 255


def test_unit_range_of_floats_is_the_identity():
    """Images stored in [0, 1] are taken as they are."""
    images = torch.rand(2, 1, 3, 3)
    assert torch.equal(images, as_unit_range(images))


def test_stratified_split_takes_classes_in_proportion():
    """A tenth of 100, 50 and 10 images is 10, 5 and 1."""
    labels = np.repeat([0, 1, 2], [100, 50, 10])
    large, small = stratified_split(labels, (144, 16), "k")
    assert np.bincount(labels[large]).tolist() == [90, 45, 9]
    assert np.bincount(labels[small]).tolist() == [10, 5, 1]
    assert list(range(160)) == sorted([*large.tolist(), *small.tolist()])


def test_stratified_split_depends_on_its_key_alone():
    """The same key gives the same parts, another key others."""
    labels = np.arange(60) % 3
    assert (
        stratified_split(labels, (30, 30), "a")[0].tolist()
        == stratified_split(labels, (30, 30), "a")[0].tolist()
    )
    assert (
        stratified_split(labels, (30, 30), "a")[0].tolist()
        != stratified_split(labels, (30, 30), "b")[0].tolist()
    )


def test_unknown_data_set_lists_what_exists():
    """An unknown name is a usage error with the names there are."""
    names = "digits, cifar10, svhn, mnist, fashion-mnist, kmnist, cifar100"
    with pytest.raises(UnknownNameError, match=f"unknown dataset 'imagenet'; there is: {names}"):
        data.load("imagenet", NOWHERE)
