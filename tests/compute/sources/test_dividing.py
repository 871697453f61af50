"""The division into splits: by the pixels alone, in the stated sizes, with what should be known of it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jsdelta_db.compute.sources.dividing import Rules, divide, hash_images
from jsdelta_db.errors import DataError
from tests.compute.sources.forms import some_images

CLASSES = ("a", "b", "c")


def divided(images, labels, parts=None, rules=Rules(), classes=CLASSES):  # noqa: B008 frozen
    """Divide images; parts are slices by name."""
    positions = np.arange(len(labels))
    parts = {name: positions[rows] for name, rows in (parts or {"all": slice(None)}).items()}
    return divide(hash_images(images), labels, parts, classes, rules)


def sizes(division, labels):
    """Return the images of each class in each split."""
    return {name: np.bincount(labels[rows], minlength=3).tolist() for name, rows in division.rows.items()}


@given(st.randoms(use_true_random=False))
def test_order_of_the_source_does_not_matter(random):
    """Images shuffled within their part go to the same splits, in the same order, with one fingerprint."""
    images, labels = some_images(90)
    order = [*random.sample(range(60), 60), *random.sample(range(60, 90), 30)]
    parts = {"train": slice(60), "test": slice(60, None)}
    one, other = divided(images, labels, parts), divided(images[order], labels[order], parts)
    assert one.fingerprint == other.fingerprint
    for name, rows in one.rows.items():
        np.testing.assert_array_equal(images[rows], images[order][other.rows[name]])


@pytest.mark.parametrize(
    ("n", "baseline"), [(2, 1), (10, 5), (19, 10), (20, 10), (99, 10), (250, 25), (5000, 500), (9000, 500)]
)
def test_a_tenth_of_a_class_is_the_baseline(n, baseline):
    """At least 10 where there are 20, at most 500; of fewer than 20 a half."""
    assert (n - baseline, baseline) == Rules().of_train(n)


def test_whole_source_is_divided_60_20_20():
    """By class; what is left is attacked, and no image is in two splits."""
    images, labels = some_images(300)
    division = divided(images, labels)
    assert sizes(division, labels) == {"train": [60] * 3, "baseline": [20] * 3, "attack": [20] * 3}
    assert list(range(300)) == sorted(np.concatenate(list(division.rows.values())).tolist())


def test_test_only_has_no_train_split():
    """A third is the baseline; of a divided source only its test part is used."""
    images, labels = some_images(300)
    division = divided(images, labels, {"train": slice(210), "test": slice(210, None)}, Rules(test_only=True))
    assert sizes(division, labels) == {"baseline": [10] * 3, "attack": [20] * 3}
    assert min(np.concatenate(list(division.rows.values()))) >= 210


def test_baseline_size_is_of_each_class():
    """It replaces the usual share; the rest of a whole source stays 3 to 1."""
    images, labels = some_images(300)
    assert sizes(divided(images, labels, rules=Rules(4)), labels) == {
        "train": [72] * 3,
        "baseline": [4] * 3,
        "attack": [24] * 3,
    }


def test_split_without_images_is_refused():
    """A baseline that takes everything leaves nothing."""
    images, labels = some_images(60)
    with pytest.raises(DataError, match="no image is left for the train split"):
        divided(images, labels, rules=Rules(100))


def test_fingerprint_changes_with_each_thing_that_matters():
    """A pixel, a label, a class name, the division."""
    images, labels = some_images(90)
    other_image, other_label = images.copy(), labels.copy()
    other_image[5, 0, 0, 0] ^= 1
    other_label[5] = (labels[5] + 1) % 3
    prints = {
        divided(images, labels).fingerprint,
        divided(other_image, labels).fingerprint,
        divided(images, other_label).fingerprint,
        divided(images, labels, classes=("a", "b", "d")).fingerprint,
        divided(images, labels, rules=Rules(5)).fingerprint,
        divided(images, labels, rules=Rules(test_only=True)).fingerprint,
    }
    assert len(prints) == 6


def test_few_baseline_images_shared_and_contradicting_ones_are_told():
    """Three notes, each with its number."""
    images, labels = some_images(60)
    images[59] = images[0]  # in test and in train, with another label
    division = divided(images, labels, {"train": slice(45), "test": slice(45, None)})
    notes = "; ".join(division.notes)
    assert "fewer than 10 baseline images of class a (8), b (8), c (8)" in notes
    assert "1 attacked images are in train or baseline, too" in notes
    assert "1 images are there with more than one label" in notes
