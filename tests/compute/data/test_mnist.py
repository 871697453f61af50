"""MNIST, Fashion-MNIST and Kuzushiji-MNIST in their IDX files, packed and unpacked."""

from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import numpy as np
import pytest
import torch

from jsdelta_db.compute import data
from jsdelta_db.errors import DataError
from tests.compute.data.published import IN_GREY


@pytest.mark.parametrize(("name", "folder"), IN_GREY.items())
def test_sets_in_grey_are_read_from_their_idx_files(name, folder, small_in_grey):
    """A tenth of each class is the baseline split, the test files are attacked, one channel of 28×28."""
    dataset = data.load(name, small_in_grey)
    assert [len(dataset.splits[each]) for each in ("train", "baseline", "attack")] == [180, 20, 30]
    assert np.bincount(dataset.splits["baseline"].labels.numpy()).tolist() == [2] * 10
    raw = small_in_grey / folder / "raw"
    attack = dataset.splits["attack"]
    assert attack.images.numpy().tobytes() == (raw / "t10k-images-idx3-ubyte").read_bytes()[16:]
    assert bytes(attack.labels.tolist()) == (raw / "t10k-labels-idx1-ubyte").read_bytes()[8:]
    assert ((1, 28, 28), torch.uint8, torch.int64) == (
        dataset.image_shape, attack.images.dtype, attack.labels.dtype,
    )  # fmt: skip
    assert (dataset.name, len(dataset.classes)) == (name, 10)


def test_classes_have_the_names_that_they_are_known_by(small_in_grey):
    """Digits, clothes and syllables."""
    classes = {name: data.load(name, small_in_grey).classes[3] for name in IN_GREY}
    assert classes == {"mnist": "3", "fashion-mnist": "Dress", "kmnist": "tsu"}


@pytest.mark.parametrize("inner", ["MNIST", "MNIST/raw"])
def test_mnist_is_taken_from_its_own_folders_too(inner, small_in_grey):
    """--data-dir …/MNIST and …/MNIST/raw are the same as the folder around them."""
    expected = data.load("mnist", small_in_grey).fingerprint()
    assert data.load("mnist", small_in_grey / inner).fingerprint() == expected


def test_unpacked_files_alone_will_do(small_in_grey):
    """Without the packed files there is no md5 to hold them against, but their length is checked."""
    expected = data.load("mnist", small_in_grey).fingerprint()
    for packed in (small_in_grey / "MNIST" / "raw").glob("*.gz"):
        packed.unlink()
    assert data.load("mnist", small_in_grey).fingerprint() == expected


@pytest.mark.parametrize(
    "content",
    [b"", b"\x00\x00", b"\x00\x00\x08\x03\x00", b"hello, world", b"\x00\x00\x09\x01\x00\x00\x00\x00"],
)
@pytest.mark.parametrize("file", ["train-labels-idx1-ubyte", "t10k-images-idx3-ubyte"])
def test_an_unpacked_file_that_is_none_is_named(content, file, small_in_grey):
    """Cut in its header, text, or of another type."""
    raw = small_in_grey / "MNIST" / "raw"
    for packed in raw.glob("*.gz"):
        packed.unlink()
    (raw / file).write_bytes(content)
    with pytest.raises(
        DataError, match=f"dataset 'mnist' is damaged: {raw / file} is not the published file"
    ):
        data.load("mnist", small_in_grey)


def test_a_packed_file_that_was_altered_says_nothing(small_in_grey):
    """Of a packed file whose md5 is wrong, nothing is believed: the length alone is checked."""
    packed = small_in_grey / "MNIST" / "raw" / "train-images-idx3-ubyte.gz"
    packed.write_bytes(packed.read_bytes()[:-8] + bytes(8))
    assert len(data.load("mnist", small_in_grey).splits["train"]) == 180


def test_packed_files_that_were_not_unpacked_are_named(small_in_grey):
    """The folder that was searched, and a packed file in it, are in the line."""
    raw = small_in_grey / "KMNIST" / "raw"
    for path in raw.iterdir():
        if path.suffix != ".gz":
            path.unlink()
    with pytest.raises(DataError) as caught:
        data.load("kmnist", small_in_grey)
    assert str(caught.value).startswith(
        f"dataset 'kmnist' is not in {small_in_grey}, which has no KMNIST/raw/train-images-idx3-ubyte; "
        f"{raw / 't10k-images-idx3-ubyte.gz'} is an archive: unpack it there; give the folder"
    )


@pytest.fixture
def server(small_in_grey, monkeypatch):
    """The address of a server that has Kuzushiji-MNIST's packed files."""
    monkeypatch.setenv("no_proxy", "*")

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *args):
            """Say nothing."""

    folder = small_in_grey / "KMNIST" / "raw"
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=folder)) as serving:
        thread = Thread(target=serving.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{serving.server_address[1]}/"
        serving.shutdown()
        thread.join()


def test_a_download_is_the_published_files(server, small_in_grey, tmp_path, monkeypatch):
    """--download fetches and unpacks what is missing; later it is there."""
    from torchvision.datasets import KMNIST

    monkeypatch.setattr(KMNIST, "mirrors", [server])
    fetched = data.load("kmnist", tmp_path / "new", download=True)
    assert fetched.fingerprint() == data.load("kmnist", small_in_grey).fingerprint()
    assert data.load("kmnist", tmp_path / "new").fingerprint() == fetched.fingerprint()
