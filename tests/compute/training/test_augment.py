"""Augmentation: whole batches shifted and mirrored by what a generator draws, and little sent to the device."""

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from jsdelta_db.compute.training.augment import augment
from tests.compute.training.operations import Operations


def _images(n=16, channels=2, height=5, width=7):
    """Images whose every pixel has a value of its own."""
    return torch.arange(n * channels * height * width, dtype=torch.int32).view(n, channels, height, width)


def _generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("padding", [0, 1, 3])
@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_augmentation_keeps_shape_and_dtype(padding, flip, dtype):
    """Whatever is done to a batch, its shape and dtype stay, and the originals too."""
    images = _images().to(dtype)
    before = images.clone()
    result = augment(images, padding, flip, _generator())
    assert (images.shape, dtype) == (result.shape, result.dtype)
    assert torch.equal(before, images)


def test_no_padding_and_no_flip_is_the_identity():
    """Without padding and flip images come out as they are, and nothing is drawn."""
    generator = _generator()
    before = generator.get_state()
    assert torch.equal(_images(), augment(_images(), 0, False, generator))
    assert torch.equal(before, generator.get_state())


@pytest.mark.parametrize("padding", [0, 2])
def test_about_half_are_mirrored(padding):
    """Each image is mirrored or not, about half of them are."""
    images = _images(400)
    result = augment(images, padding, True, _generator())
    # Within a row values rise from left to right unless mirrored, whatever the shift.
    mirrored = (result[:, 0, 0, 0] > result[:, 0, 0, -1]).float()
    assert 0.4 < float(mirrored.mean()) < 0.6
    if not padding:
        expected = torch.where(mirrored.bool()[:, None, None, None], images.flip(3), images)
        assert torch.equal(expected, result)


@pytest.mark.parametrize("padding", [1, 2])
def test_shifts_keep_pixel_values(padding):
    """Each image is its original shifted by whole pixels, with the nearest edge's value shifted in."""
    images = _images(200)
    result = augment(images, padding, False, _generator())
    shifts = set()
    for image, shifted in zip(images, result, strict=True):
        padded = nn.functional.pad(image[None].float(), [padding] * 4, mode="replicate")[0].int()
        found = [
            (down, right)
            for down in range(2 * padding + 1)
            for right in range(2 * padding + 1)
            if torch.equal(padded[:, down : down + 5, right : right + 7], shifted)
        ]
        assert len(found) == 1
        shifts.add(found[0])
    assert (2 * padding + 1) ** 2 == len(shifts)  # every shift occurs


def test_augmentation_is_decided_by_its_generator():
    """The same generator state gives the same shifts, another others."""
    first, again, other = (augment(_images(), 2, True, _generator(seed)) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


# ---- what goes over the bus


@pytest.mark.parametrize(
    ("padding", "flip", "values"), [(2, True, 3), (2, False, 2), (0, True, 1), (0, False, 0)]
)
def test_one_copy_a_batch_goes_to_a_card_and_nobody_waits(padding, flip, values, monkeypatch):
    """A card gets at most three numbers an image, from pinned memory; it computes the coordinates itself."""
    pinned = []
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda values: pinned.append(values) or values)
    with FakeTensorMode():
        images = torch.empty(8, 1, 32, 32, dtype=torch.uint8, device="cuda")
        with Operations() as operations:
            result = augment(images, padding, flip, _generator())
    assert (images.device, images.shape) == (result.device, result.shape)
    copies = operations.to_card
    assert [copy.numel() for copy, _ in copies] == [8 * values] * (values > 0)
    assert all(options["non_blocking"] for _, options in copies)
    assert len(pinned) == len(copies)
