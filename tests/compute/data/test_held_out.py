"""Held-out splits: a tenth of each class, at most 500, and the test set."""

import numpy as np
import pytest

from jsdelta_db.compute.data.held_out import hold_out, tenth_of_each_class


@pytest.mark.parametrize(
    ("counts", "expected"),
    [([6000, 5421, 6742], [500, 500, 500]), ([500, 500], [50, 50]), ([19, 20, 4999], [1, 2, 499])],
)
def test_a_tenth_of_each_class_up_to_500(counts, expected):
    """Classes are not taken in proportion: a larger one gives no more than 500."""
    labels = np.repeat(np.arange(len(counts)), counts)
    train, baseline = tenth_of_each_class(labels, "k")
    assert np.bincount(labels[baseline]).tolist() == expected
    assert sorted([*train.tolist(), *baseline.tolist()]) == list(range(sum(counts)))
    assert (np.diff(train) > 0).all()
    assert (np.diff(baseline) > 0).all()


def test_the_key_alone_decides():
    """The same key gives the same parts, another one others."""
    labels = np.arange(400) % 4
    first, again, other = (tenth_of_each_class(labels, key)[1].tolist() for key in ("a", "a", "b"))
    assert first == again
    assert first != other


def test_the_test_set_is_attacked():
    """Indices are those of the sources, and test comes whole."""
    images, labels = np.arange(40, dtype=np.uint8).reshape(40, 1, 1, 1), np.arange(40) % 2
    splits = hold_out((images, labels), (images[:5], labels[:5]), tenth_of_each_class(labels, "k"))
    for name in ("train", "baseline"):
        assert splits[name].images.flatten().tolist() == splits[name].index.tolist()
        assert splits[name].labels.tolist() == (splits[name].index % 2).tolist()
    assert splits["attack"].images.flatten().tolist() == list(range(5))
