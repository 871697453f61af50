"""CIFAR-10, also the real one, and CIFAR-100: their pickles, and the file at fault by name."""

import pickle
import re

import numpy as np
import pytest
import torch

from jsdelta_db.compute import data
from jsdelta_db.errors import DataError
from tests.compute.data.published import CIFAR10_CLASSES, CIFAR100_CLASSES


@pytest.fixture(scope="module")
def real_cifar10(cifar10_dir):
    return data.load("cifar10", cifar10_dir)


def test_real_cifar10_has_the_sizes_of_the_design(real_cifar10):
    """45,000 / 5,000 / 10,000, each stratified exactly; bytes of 3×32×32."""
    for name, per_class in (("train", 4500), ("baseline", 500), ("attack", 1000)):
        split = real_cifar10.splits[name]
        assert [per_class] * 10 == np.bincount(split.labels.numpy()).tolist()
        assert (torch.uint8, (10 * per_class, 3, 32, 32)) == (split.images.dtype, tuple(split.images.shape))
    assert real_cifar10.image_shape == (3, 32, 32)
    assert real_cifar10.classes == CIFAR10_CLASSES


def test_real_cifar10_train_and_baseline_share_no_image(real_cifar10):
    """The baseline split is carved out of the 50,000 training images."""
    index = np.concatenate([real_cifar10.splits[name].index for name in ("train", "baseline")])
    assert list(range(50_000)) == sorted(index.tolist())


def test_real_cifar10_planes_are_where_the_format_has_them(real_cifar10, cifar10_dir):
    """Red, green and blue planes and labels are those of the pickle, read without torchvision."""
    with (cifar10_dir / "cifar-10-batches-py" / "test_batch").open("rb") as file:
        raw = pickle.load(file, encoding="latin1")
    attack = real_cifar10.splits["attack"]
    assert np.array_equal(raw["data"].reshape(-1, 3, 32, 32), attack.images.numpy())
    assert raw["labels"] == attack.labels.tolist()


def test_real_cifar10_normalization_is_that_of_the_train_images(real_cifar10):
    """The recorded channel means and deviations are those of the 50,000 images, to four digits."""
    parts = [real_cifar10.splits[name].images[:, :, ::4, ::4] for name in ("train", "baseline")]
    pixels = torch.cat(parts).float().div_(255).permute(1, 0, 2, 3).flatten(1)
    assert real_cifar10.mean == pytest.approx(pixels.mean(1).tolist(), abs=0.005)  # every 16th pixel
    assert real_cifar10.std == pytest.approx(pixels.std(1).tolist(), abs=0.005)


def test_cifar10_is_read_from_its_pickles(small_cifar10):
    """Planes come out channels first, train is divided, and the test batch is the attack split."""
    dataset = data.load("cifar10", small_cifar10)
    assert [len(dataset.splits[name]) for name in ("train", "baseline", "attack")] == [90, 10, 20]
    assert np.bincount(dataset.splits["baseline"].labels.numpy()).tolist() == [1] * 10
    raw = pickle.loads((small_cifar10 / "cifar-10-batches-py" / "test_batch").read_bytes())
    assert np.array_equal(raw["data"].reshape(-1, 3, 32, 32), dataset.splits["attack"].images.numpy())
    assert dataset.classes == CIFAR10_CLASSES
    assert len(dataset.fingerprint()) == 64


@pytest.mark.parametrize("damage", ["cut", "gone"])
@pytest.mark.parametrize("file", ["data_batch_3", "test_batch", "batches.meta"])
def test_the_file_that_is_damaged_is_named(small_cifar10, file, damage):
    """Of seven files the one at fault is named, with its folder."""
    path = small_cifar10 / "cifar-10-batches-py" / file
    path.unlink() if damage == "gone" else path.write_bytes(path.read_bytes()[:-7])
    fault = f"is not whole: {path} is missing" if damage == "gone" else f"is damaged: {path} is not the"
    with pytest.raises(DataError, match=re.escape(f"dataset 'cifar10' {fault}")):
        data.load("cifar10", small_cifar10)


def test_cifar10_is_taken_from_its_own_folder_too(small_cifar10):
    """--data-dir …/cifar-10-batches-py is the same as the folder around it."""
    inner = data.load("cifar10", small_cifar10 / "cifar-10-batches-py")
    assert inner.fingerprint() == data.load("cifar10", small_cifar10).fingerprint()


@pytest.mark.parametrize("archive", ["cifar-10-python.tar.gz", "cifar.tar"])
def test_an_archive_that_was_not_unpacked_is_named(archive, tmp_path):
    """The folder that was searched, and the archive in it, are in the line."""
    (tmp_path / archive).write_bytes(b"x")
    with pytest.raises(DataError) as caught:
        data.load("cifar10", tmp_path)
    assert str(caught.value).startswith(
        f"dataset 'cifar10' is not in {tmp_path}, which has no cifar-10-batches-py/data_batch_1; "
        f"{tmp_path / archive} is an archive: unpack it there; give the folder"
    )


def test_cifar100_is_read_from_its_pickles(small_cifar100):
    """The hundred fine labels, a tenth of each for the baseline, and the test file to attack."""
    dataset = data.load("cifar100", small_cifar100)
    assert [len(dataset.splits[name]) for name in ("train", "baseline", "attack")] == [1800, 200, 200]
    assert np.bincount(dataset.splits["baseline"].labels.numpy()).tolist() == [2] * 100
    raw = pickle.loads((small_cifar100 / "cifar-100-python" / "test").read_bytes())
    assert np.array_equal(raw["data"].reshape(-1, 3, 32, 32), dataset.splits["attack"].images.numpy())
    assert raw["fine_labels"] == dataset.splits["attack"].labels.tolist()
    assert dataset.classes == CIFAR100_CLASSES
    assert dataset.image_shape == (3, 32, 32)
