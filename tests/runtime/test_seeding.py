"""Keyed random numbers: a key names its stream for good."""

import random

import numpy as np
import pytest
import torch

from jsdelta_db.runtime import seeding


def test_a_key_names_its_stream_for_good():
    """The first numbers of a key, as drawn with NumPy 2.4: stores hold targets and starts made from them."""
    assert float(seeding.generator("target", 0, 7).random()) == 0.80882877436258
    drawn = seeding.generator("target", 0, 7).integers(0, 2**32, 3, dtype=np.uint32).tolist()
    assert drawn == [4084707113, 3473893133, 2034770666]


def test_other_keys_have_other_streams():
    """Each part of a key and its place matter."""
    keys = [("a", 1, 2), ("a", 2, 1), ("b", 1, 2), ("a", 12), ("a", 1), ("a", 1, 2, 0), ("a", -1, 2)]
    assert len(keys) == len({float(seeding.generator(*key).random()) for key in keys})


def test_global_generators_are_left_alone():
    """Nothing is drawn from the generators that others share, nor are they seeded."""
    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
    seeding.order(np.arange(10), "x")
    after = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
    assert before == after


def test_draws_are_uniform_over_keys():
    """First draws of consecutive keys are spread over [0, 1): their deciles are equally filled."""
    draws = [seeding.generator("target", 0, index).random() for index in range(2000)]
    counts = np.histogram(draws, bins=10, range=(0, 1))[0]
    assert counts.sum() == 2000
    assert ((counts - 200) ** 2 / 200).sum() < 27.9  # chi-square, 9 degrees of freedom, 99.9 %


def test_order_is_a_permutation():
    """Every index comes back once."""
    indices = np.array([5, 2, 9, 40, 0])
    assert sorted(indices) == sorted(seeding.order(indices, "k"))


def test_order_of_others_does_not_matter():
    """Two indices keep their order whichever others are present."""
    whole = seeding.order(np.arange(100), "images").tolist()
    part = seeding.order(np.arange(0, 100, 3), "images").tolist()
    assert [index for index in whole if index % 3 == 0] == part


def test_order_depends_on_the_key():
    """Another key is another order."""
    assert seeding.order(np.arange(50), "a").tolist() != seeding.order(np.arange(50), "b").tolist()


@pytest.mark.parametrize("indices", [[], [0], [7]])
def test_order_of_next_to_nothing(indices):
    """None or one index is ordered as it is."""
    assert indices == seeding.order(np.array(indices, dtype=np.int64), "k").tolist()
