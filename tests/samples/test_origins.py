"""Origins of images: what is said of those that models have seen, or that are nobody's."""

from pathlib import Path

import pytest
import torch

from jsdelta_db.compute import data
from jsdelta_db.samples.origins import remark_on_images


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
    """They are what is meant to be attacked, whether they stand for themselves or in a file of their own."""
    assert remark_on_images(images["attack"], "attack", digits) == []
    assert remark_on_images(images["attack"], "file", digits) == []


@pytest.mark.parametrize(
    ("parts", "split", "starts"),
    [
        (["train"], "train", ["all 4 images are of the train split, which every model has seen"]),
        (["baseline"], "baseline", ["all 4 images are of the baseline split, on which ρ"]),
        (["none"], "file", ["all 4 images are of no split of 'digits', on which no model was measured"]),
        (["train", "attack"], "file", ["4 of 8 images are of the train split"]),
        (
            ["none", "train", "attack", "baseline"],
            "file",
            [
                "4 of 16 images are of the baseline split",
                "4 of 16 images are of the train split",
                "4 of 16 images are of no split",
            ],
        ),
    ],
    ids=["train", "baseline", "none", "mixed", "all"],
)
def test_other_images_are_told_with_their_number(parts, split, starts, images, digits):
    """A line each: what, how many, and why it matters."""
    lines = remark_on_images(torch.cat([images[part] for part in parts]), split, digits)
    assert [line[: len(start)] for line, start in zip(lines, starts, strict=True)] == starts


def test_images_are_known_up_to_rounding(images, digits):
    """Another library's arithmetic around the pixels does not hide whose image it is."""
    assert remark_on_images(images["attack"].double().mul(3).div(3).float() + 1e-7, "file", digits) == []
