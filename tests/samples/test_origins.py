"""Origins of images: what is said of those that models have seen, or that are nobody's."""

from pathlib import Path

import numpy as np
import pytest
import torch

from jsdelta_db.compute import data
from jsdelta_db.samples.foreign import SampleArrays, check_samples
from jsdelta_db.samples.origins import remark_on_images


def remarks(x, dataset) -> list[str]:
    """Return what is said of images that come in a file, whatever their labels are called there."""
    labels = np.zeros(len(x), np.int64)
    samples = check_samples(SampleArrays(x.numpy(), x.numpy(), labels), dataset, library="any")
    return remark_on_images(samples.image_keys, dataset.name)


@pytest.fixture(scope="module")
def digits():
    """The data set that the images are said to be from."""
    return data.load("digits", Path("unused"))


@pytest.fixture(scope="module")
def images(digits):
    """Four images of each split, and four of none."""
    found = {name: split.batch(slice(0, 4)) for name, split in digits.splits.items()}
    return {**found, "none": found["attack"] + 0.01}


def test_images_of_the_attack_split_need_no_word(images, digits):
    """They are what is meant to be attacked."""
    assert remarks(images["attack"], digits) == []


@pytest.mark.parametrize(
    ("parts", "starts"),
    [
        (["train"], ["all 4 images are of the train split, which every model has seen"]),
        (["baseline"], ["all 4 images are of the baseline split, on which ρ"]),
        (["none"], ["all 4 images are of no split of 'digits', on which no model was measured"]),
        (["train", "attack"], ["4 of 8 images are of the train split"]),
        (
            ["none", "train", "attack", "baseline"],
            [
                "4 of 16 images are of the baseline split",
                "4 of 16 images are of the train split",
                "4 of 16 images are of no split",
            ],
        ),
    ],
    ids=["train", "baseline", "none", "mixed", "all"],
)
def test_other_images_are_told_with_their_number(parts, starts, images, digits):
    """A line each: what, how many, and why it matters."""
    lines = remarks(torch.cat([images[part] for part in parts]), digits)
    assert [line[: len(start)] for line, start in zip(lines, starts, strict=True)] == starts


def test_images_are_known_up_to_rounding(images, digits):
    """Another library's arithmetic around the pixels does not hide whose image it is."""
    assert remarks(images["attack"].double().mul(3).div(3).float() + 1e-7, digits) == []
