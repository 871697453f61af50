"""Published files: whatever is wrong with them is one line that names the file and says what to do."""

import re

import pytest

from jsdelta_db.compute import data
from jsdelta_db.compute.data.published_files import find_root
from jsdelta_db.errors import DataError
from tests.compute.data.published import write_cifar10

# Of each set, files of every kind.
FILES = {
    "cifar10": [f"cifar-10-batches-py/{name}" for name in ("data_batch_3", "test_batch", "batches.meta")],
    "cifar100": [f"cifar-100-python/{name}" for name in ("train", "test", "meta")],
    "svhn": ["train_32x32.mat", "test_32x32.mat"],
    "mnist": ["MNIST/raw/train-images-idx3-ubyte", "MNIST/raw/t10k-labels-idx1-ubyte"],
    "fashion-mnist": ["FashionMNIST/raw/t10k-images-idx3-ubyte", "FashionMNIST/raw/train-labels-idx1-ubyte"],
    "kmnist": ["KMNIST/raw/train-images-idx3-ubyte", "KMNIST/raw/t10k-labels-idx1-ubyte"],
}


def assert_one_helpful_line(name, folder):
    """Load a data set that cannot be, and look at the message."""
    with pytest.raises(DataError) as caught:
        data.load(name, folder)
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    assert f"dataset {name!r}" in message
    assert str(folder) in message
    assert "--data-dir" in message
    assert "--download" in message
    return message


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("make", ["missing", "empty", "a file"])
def test_missing_folder_is_one_line(tmp_path, name, make):
    """A data folder that is missing, empty or no folder gives one line that says what to do."""
    folder = tmp_path / "data"
    if make == "empty":
        folder.mkdir()
    elif make == "a file":
        folder.write_bytes(b"")
    assert_one_helpful_line(name, folder)


def cut(content):
    """Leave the end out."""
    return content[:-7]


def alter(content):
    """Turn a bit in the middle."""
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


@pytest.mark.parametrize(
    ("dataset", "file"), [(name, file) for name, files in FILES.items() for file in files]
)
@pytest.mark.parametrize("damage", [cut, alter, None])
def test_the_file_that_is_damaged_is_named(dataset, file, damage, small_folder):
    """Cut short, altered or gone: none of it is used, and the one at fault of several is named."""
    path = small_folder / file
    fault = f"is damaged: {path} is not the" if damage else f"is not whole: {path} is missing"
    if damage is None:
        path.unlink()
    else:
        path.write_bytes(damage(path.read_bytes()))
    assert f"dataset {dataset!r} {fault}" in assert_one_helpful_line(dataset, small_folder)


def test_files_that_are_not_cifar10_are_refused(tmp_path):
    """Files of the right names and another content do not pass torchvision's md5 check."""
    write_cifar10(tmp_path)
    assert_one_helpful_line("cifar10", tmp_path)


@pytest.mark.parametrize("name", FILES)
def test_nothing_is_downloaded_unless_asked(name, tmp_path, monkeypatch):
    """A missing data set opens no connection."""
    import urllib.request

    def refuse(*args, **kwargs):
        raise AssertionError("a download was tried")

    monkeypatch.setattr(urllib.request, "urlopen", refuse)
    assert re.search("is not in .*, which has no ", assert_one_helpful_line(name, tmp_path))


@pytest.mark.parametrize("given", [".", "MNIST", "MNIST/raw"])
def test_a_folder_on_the_way_is_taken_for_the_one_around_it(given, tmp_path):
    """…/MNIST and …/MNIST/raw lead to the folder that holds them, if they are those."""
    (tmp_path / "MNIST" / "raw").mkdir(parents=True)
    assert find_root(tmp_path / given, "MNIST/raw") == tmp_path


def test_a_folder_that_only_has_the_name_is_taken_as_given(tmp_path):
    """A data folder that happens to be called MNIST and holds MNIST/raw is what was meant."""
    (tmp_path / "MNIST" / "MNIST" / "raw").mkdir(parents=True)
    assert find_root(tmp_path / "MNIST", "MNIST/raw") == tmp_path / "MNIST"
