"""Inference: what travels to the device and back, the size of batches, and memory that ends."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from jsdelta_db.compute import data
from jsdelta_db.compute.data import Split
from jsdelta_db.compute.data.dataset import as_unit_range
from jsdelta_db.compute.models import build_model, inference, predict
from jsdelta_db.compute.models.inference import batch_size, forward, predict_images
from jsdelta_db.errors import OutOfMemoryError
from jsdelta_db.runtime import memory
from tests.waits import Readings, Traffic

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


@pytest.fixture(scope="module")
def digits():
    return data.load("digits", Path("unused"))


@pytest.fixture(scope="module")
def cnn(digits):
    return build_model("cnn-small", digits, width=2).eval()


def bytes_split(n):
    """A split of bytes, as CIFAR-10 is stored."""
    images = torch.randint(
        0, 256, (n, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    return Split(images, torch.arange(n) % 10, np.arange(n))


def test_images_travel_as_they_are_stored_and_logits_come_back_once(cnn, monkeypatch):
    """Bytes and not floats go to the device, nobody waits for that, and nothing else is read from it."""
    traffic = Traffic(monkeypatch)
    with Readings() as readings:
        predict(cnn, bytes_split(600), CPU)
    assert traffic.sent == [torch.uint8] * 3
    assert (traffic.blocking, traffic.returned, readings.count) == (0, 1, 0)


def test_images_on_the_device_are_those_on_the_host():
    """Divided, not multiplied by a rounded reciprocal: every byte's value is the nearest float."""
    levels = torch.arange(256, dtype=torch.uint8)
    assert as_unit_range(levels).tolist() == [
        float(np.float32(level) / np.float32(255)) for level in range(256)
    ]
    with Readings() as readings:
        as_unit_range(levels)
    assert readings.count == 0


def test_batches_on_a_cpu_are_never_changed_and_those_on_a_gpu_are_large(cnn, monkeypatch):
    """Stored logits are compared byte for byte; a GPU wants thousands of images."""
    assert batch_size(CPU) == 256
    assert batch_size(CUDA) >= 2048
    sizes = []
    handle = cnn.register_forward_pre_hook(lambda module, given: sizes.append(len(given[0])))
    predict(cnn, bytes_split(600), CPU)
    monkeypatch.setattr(inference, "BATCH_SIZE_ON_GPU", 400)
    monkeypatch.setattr(inference, "batch_size", lambda device: batch_size(CUDA))
    predict(cnn, bytes_split(600), CPU)
    handle.remove()
    assert sizes == [256, 256, 88, 400, 200]


class Greedy(nn.Module):
    """A network that has memory for a few images."""

    def __init__(self, network, room):
        super().__init__()
        self.network, self.room = network, room

    def forward(self, x):
        if len(x) > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return self.network(x)


def test_prediction_goes_on_in_smaller_batches_where_memory_ends(cnn, monkeypatch):
    """The same logits but for rounding, and the memory of the failed try is given back first."""
    released = []
    monkeypatch.setattr(memory, "release_cached_memory", lambda: released.append(0))
    split = bytes_split(300)
    np.testing.assert_allclose(
        predict(Greedy(cnn, 100), split, CPU), predict(cnn, split, CPU), rtol=0, atol=1e-5
    )
    assert len(released) == 2  # 256, 128, 64


def test_an_image_that_does_not_fit_is_one_line(cnn):
    """What to try is said."""
    with pytest.raises(
        OutOfMemoryError, match="out of memory while predicting, even with one image at a time; end"
    ):
        predict(Greedy(cnn, 0), bytes_split(3), CPU)


@pytest.mark.parametrize("size", [None, 7, 100])
def test_several_models_see_images_that_travel_once(cnn, size, monkeypatch):
    """Row i of each model's logits belongs to image i, in whatever parts they are shown."""
    images = bytes_split(30).batch(slice(None))
    expected = forward(cnn, images)
    traffic = Traffic(monkeypatch)
    batch = memory.SubBatch(size or len(images))
    logits = predict_images([cnn, Greedy(cnn, 30)], images, CPU, batch, "here")
    assert len(traffic.sent) == (5 if size == 7 else 1)
    for each in logits:
        np.testing.assert_allclose(expected, each, rtol=0, atol=1e-5)
