"""Clean images that a file lacks: found in the attack split where there is no doubt, else refused."""

import dataclasses

import numpy as np
import pytest

from jsdelta_db.compute.data import Split
from jsdelta_db.errors import DataError
from tests.samples.foreign.cases import changed, check


def without_x(arrays, **changes):
    """Leave the clean images out."""
    return {**changed(arrays, **changes), "x": None}


def test_the_nearest_images_of_the_attack_split_are_taken(given, digits):
    """They are the ones that were attacked, and how clear that is is told."""
    samples = check(without_x(given), digits)
    assert samples.fingerprint == check(given, digits).fingerprint
    assert samples.split == "attack"
    (line,) = samples.conversions
    assert line.startswith(
        "x: not in the file; the nearest images of the attack split are taken, the next nearest"
    )
    times = float(line.split("at least ")[1].split(" times")[0])
    assert times > 2


def test_a_sample_that_is_far_from_every_image_is_refused(given, digits):
    """Where another image is as near, it is not clear which one is meant."""

    def blur(x):
        x[2] = x.mean(0)
        return x

    with pytest.raises(DataError, match=r"for 1 of 4 samples \(the first is 2\) it is not clear which image"):
        check(without_x(given, x_adv=blur), digits)


def test_another_label_is_another_image(given, digits):
    """Only images of the sample's label are looked at: of a wrong label, none is clearly the one."""
    with pytest.raises(DataError, match="it is not clear which image"):
        check(without_x(given, label=lambda label: (label + 5) % 10, target_label=None), digits)


def test_a_class_without_images_to_compare_is_refused(given, digits):
    """Where the attack split has no two images of a label, nothing says that the nearest is the one."""
    attack = digits.splits["attack"]
    rows = np.flatnonzero(attack.labels.numpy() != given["label"][0])
    fewer = Split(attack.images[rows], attack.labels[rows], attack.index[rows])
    dataset = dataclasses.replace(digits, splits={**digits.splits, "attack": fewer})
    with pytest.raises(DataError, match=r"for 1 of 4 samples \(the first is 0\)"):
        check(without_x(given), dataset)
