"""Data sets: the embedded digits, CIFAR-10 and SVHN in their on-disk formats, and the ways they fail."""

import dataclasses
import hashlib
import pickle
import re
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import torch

from jsdelta_db.compute import data
from jsdelta_db.compute.data import Split, vision
from jsdelta_db.compute.data.dataset import as_unit_range, stratified_split
from jsdelta_db.errors import DataError, UnknownNameError

NOWHERE = Path("nowhere")
CIFAR10_CLASSES = (
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
)  # fmt: skip


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
    with pytest.raises(UnknownNameError, match="unknown dataset 'mnist'; there is: digits, cifar10, svhn"):
        data.load("mnist", NOWHERE)


# ---- CIFAR-10, in its pickles


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


def _write_cifar10(folder, per_batch=20):
    """Write CIFAR-10's files with few images, and return each file's md5."""
    root = folder / "cifar-10-batches-py"
    root.mkdir(parents=True)
    draws = np.random.default_rng(0)
    for name in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"):
        batch = {
            "data": draws.integers(0, 256, (per_batch, 3072), dtype=np.uint8),
            "labels": [i % 10 for i in range(per_batch)],
        }
        (root / name).write_bytes(pickle.dumps(batch, protocol=2))
    (root / "batches.meta").write_bytes(pickle.dumps({"label_names": list(CIFAR10_CLASSES)}, protocol=2))
    return {path.name: hashlib.md5(path.read_bytes()).hexdigest() for path in root.iterdir()}


@pytest.fixture
def small_cifar10(tmp_path, monkeypatch):
    """Files in CIFAR-10's format with few images, whose md5 torchvision is told to expect."""
    from torchvision.datasets import CIFAR10

    digests = _write_cifar10(tmp_path)
    for attribute in ("train_list", "test_list"):
        names = [name for name, _ in getattr(CIFAR10, attribute)]
        monkeypatch.setattr(CIFAR10, attribute, [[name, digests[name]] for name in names])
    monkeypatch.setattr(CIFAR10, "meta", {**CIFAR10.meta, "md5": digests["batches.meta"]})
    monkeypatch.setattr(vision, "CIFAR10_BASELINE", 10)
    return tmp_path


def test_cifar10_is_read_from_its_pickles(small_cifar10):
    """Planes come out channels first, train is divided, and the test batch is the attack split."""
    dataset = data.load("cifar10", small_cifar10)
    assert [len(dataset.splits[name]) for name in ("train", "baseline", "attack")] == [90, 10, 20]
    assert np.bincount(dataset.splits["baseline"].labels.numpy()).tolist() == [1] * 10
    raw = pickle.loads((small_cifar10 / "cifar-10-batches-py" / "test_batch").read_bytes())
    assert np.array_equal(raw["data"].reshape(-1, 3, 32, 32), dataset.splits["attack"].images.numpy())
    assert dataset.classes == CIFAR10_CLASSES
    assert len(dataset.fingerprint()) == 64


def _assert_one_helpful_line(name, folder):
    with pytest.raises(DataError) as caught:
        data.load(name, folder)
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    assert f"dataset {name!r}" in message
    assert str(folder) in message
    assert "--data-dir" in message
    assert "--download" in message


@pytest.mark.parametrize("name", ["cifar10", "svhn"])
@pytest.mark.parametrize("make", ["missing", "empty", "a file"])
def test_missing_folder_is_one_line(tmp_path, name, make):
    """A data folder that is missing, empty or no folder gives one line that says what to do."""
    folder = tmp_path / "data"
    if make == "empty":
        folder.mkdir()
    elif make == "a file":
        folder.write_bytes(b"")
    _assert_one_helpful_line(name, folder)


@pytest.mark.parametrize("file", ["data_batch_3", "test_batch", "batches.meta"])
@pytest.mark.parametrize("damage", ["cut", "altered", "gone"])
def test_damaged_cifar10_is_one_line(small_cifar10, file, damage):
    """A batch that is cut short, altered or gone is refused before any of it is used."""
    path = small_cifar10 / "cifar-10-batches-py" / file
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:-7] if damage == "cut" else content)
    _assert_one_helpful_line("cifar10", small_cifar10)


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


def test_files_that_are_not_cifar10_are_refused(tmp_path):
    """Files of the right names and another content do not pass torchvision's md5 check."""
    _write_cifar10(tmp_path)
    _assert_one_helpful_line("cifar10", tmp_path)


def test_nothing_is_downloaded_unless_asked(tmp_path, monkeypatch):
    """A missing data set opens no connection."""
    import urllib.request

    def refuse(*args, **kwargs):
        raise AssertionError("a download was tried")

    monkeypatch.setattr(urllib.request, "urlopen", refuse)
    _assert_one_helpful_line("cifar10", tmp_path)
    _assert_one_helpful_line("svhn", tmp_path)


# ---- SVHN, in its .mat files


@pytest.fixture
def small_svhn(tmp_path, monkeypatch):
    """Files in SVHN's format with few images, whose md5 torchvision is told to expect."""
    from torchvision.datasets import SVHN

    draws = np.random.default_rng(0)
    digests = {}
    for part, n in (("train", 200), ("test", 30)):
        path = tmp_path / f"{part}_32x32.mat"
        labels = 1 + np.arange(n, dtype=np.uint8)[:, None] % 10  # SVHN writes the digit 0 as 10
        scipy.io.savemat(path, {"X": draws.integers(0, 256, (32, 32, 3, n), dtype=np.uint8), "y": labels})
        digests[part] = hashlib.md5(path.read_bytes()).hexdigest()
    known = {part: [*SVHN.split_list[part][:2], digests[part]] for part in digests}
    monkeypatch.setattr(SVHN, "split_list", {**SVHN.split_list, **known})
    return tmp_path


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


@pytest.mark.parametrize("damage", ["cut", "gone"])
def test_damaged_svhn_is_one_line(small_svhn, damage):
    """A .mat file that is cut short or gone is refused."""
    path = small_svhn / "test_32x32.mat"
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:1000])
    _assert_one_helpful_line("svhn", small_svhn)
