"""Known data sets in their real formats, with few images."""

import pytest

from jsdelta_db.compute.data import cifar
from tests.compute.data import published


@pytest.fixture
def small_cifar10(tmp_path, monkeypatch):
    """A folder with CIFAR-10."""
    from torchvision.datasets import CIFAR10

    published.expect_cifar(monkeypatch, CIFAR10, published.write_cifar10(tmp_path))
    monkeypatch.setattr(cifar, "CIFAR10_BASELINE", 10)
    return tmp_path


@pytest.fixture
def small_cifar100(tmp_path, monkeypatch):
    """A folder with CIFAR-100."""
    from torchvision.datasets import CIFAR100

    published.expect_cifar(monkeypatch, CIFAR100, published.write_cifar100(tmp_path))
    return tmp_path


@pytest.fixture
def small_svhn(tmp_path, monkeypatch):
    """A folder with SVHN."""
    from torchvision.datasets import SVHN

    digests = published.write_svhn(tmp_path)
    known = {part: [*SVHN.split_list[part][:2], digests[part]] for part in digests}
    monkeypatch.setattr(SVHN, "split_list", {**SVHN.split_list, **known})
    return tmp_path


@pytest.fixture
def small_in_grey(tmp_path, monkeypatch):
    """A folder with MNIST, Fashion-MNIST and Kuzushiji-MNIST."""
    import torchvision.datasets

    for name in published.IN_GREY.values():
        reader = getattr(torchvision.datasets, name)
        digests = published.write_in_grey(tmp_path / name / "raw")
        monkeypatch.setattr(reader, "resources", [(file, digests[file]) for file, _ in reader.resources])
    return tmp_path


@pytest.fixture
def small_folder(request, dataset):
    """The folder of the data set that a test names."""
    fixture = "in_grey" if dataset in published.IN_GREY else dataset
    return request.getfixturevalue(f"small_{fixture}")
