"""Targets of images, and the criterion of success."""

import dataclasses
import itertools

import numpy as np
import pytest
import torch

from jsdelta_db.compute.attacks import choose_attempts, is_success
from jsdelta_db.compute.attacks.criteria import aimed_or_reached, has_arrived
from jsdelta_db.compute.attacks.targets import choose_images
from jsdelta_db.errors import UnknownNameError
from jsdelta_db.records import UNTARGETED

from .attack_cases import CLASSES, make_attempts, make_split

# ---- targets


def noisy_logits(n, seed=0):
    """Logits of ten classes without ties."""
    return np.random.default_rng(seed).standard_normal((n, 10)).astype(np.float32)


@pytest.mark.parametrize("rule", ["random", "all", "next", "least-likely", "c", "2"])
def test_the_true_label_is_never_aimed_at(rule):
    """Whatever the rule, each target is a label other than the image's own."""
    split = make_split(200)
    attempts = make_attempts(split, 200, rule=rule, clean_logits=noisy_logits(200))
    assert (attempts.requested_target != attempts.source_label).all()
    assert set(attempts.requested_target.tolist()) <= set(range(10))
    assert {np.dtype(np.int64)} == {getattr(attempts, f.name).dtype for f in dataclasses.fields(attempts)}


def test_random_targets_depend_on_seed_and_image_alone():
    """Other images present, another order: each image keeps its target; another seed gives others."""
    split = make_split(100)
    whole = make_attempts(split, 100)
    rows = np.array([70, 3, 41])
    part = choose_attempts("random", split.index[rows], split.labels.numpy()[rows], CLASSES, 0)
    assert whole.requested_target[rows].tolist() == part.requested_target.tolist()
    assert whole.requested_target.tolist() != make_attempts(split, 100, seed=1).requested_target.tolist()


def test_random_targets_are_uniform_over_wrong_labels():
    """Each of the nine wrong labels is drawn equally often."""
    attempts = make_attempts(make_split(3600), 3600)
    steps = (attempts.requested_target - attempts.source_label) % 10
    counts = np.bincount(steps, minlength=10)
    assert counts[0] == 0
    assert ((counts[1:] - 400) ** 2 / 400).sum() < 26.1  # chi-square, 8 degrees of freedom, 99.9 %


def test_all_targets_are_every_wrong_label_once():
    """Each image is aimed at each of the nine other labels, image by image."""
    split = make_split(12)
    attempts = make_attempts(split, 12, rule="all")
    assert len(attempts) == 12 * 9
    for row in range(12):
        mine = attempts.chunk(row, 9)
        label = int(split.labels[row])
        assert [int(split.index[row])] * 9 == mine.sample_index.tolist()
        assert set(range(10)) - {label} == set(mine.requested_target.tolist())


def test_next_is_the_label_after():
    """The last label is followed by the first."""
    attempts = make_attempts(make_split(10), 10, rule="next")
    assert attempts.requested_target.tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 9, 0]


def test_least_likely_is_the_lowest_wrong_logit():
    """The label that the attacked model thinks least of, its own label aside even where that is lowest."""
    split, logits = make_split(40), noisy_logits(40)
    labels = split.labels.numpy()
    logits[np.arange(0, 40, 2), labels[::2]] = -9.0  # the model has these wrong
    before = logits.copy()
    attempts = make_attempts(split, 40, rule="least-likely", clean_logits=logits)
    expected = [
        min((label for label in range(10) if label != labels[row]), key=lambda label: logits[row, label])
        for row in range(40)
    ]
    assert expected == attempts.requested_target.tolist()
    assert before.tolist() == logits.tolist()


def test_untargeted_attempts_ask_for_no_label():
    """Every image once, with −1 for any wrong label."""
    split = make_split(5)
    attempts = make_attempts(split, 5, rule="untargeted")
    assert attempts.requested_target.tolist() == [UNTARGETED] * 5
    assert split.index.tolist() == attempts.sample_index.tolist()


@pytest.mark.parametrize("rule", ["d", "3"])
def test_one_label_leaves_its_own_images_out(rule):
    """Images that have the label already are not attacked."""
    attempts = make_attempts(make_split(20), 20, rule=rule)
    assert len(attempts) == 18
    assert {3} == set(attempts.requested_target.tolist())
    assert 3 not in attempts.source_label


@pytest.mark.parametrize("rule", ["", "nonsense", "10", "-1", "1.5", "RANDOM", "least_likely"])
def test_unknown_targets_list_what_exists(rule):
    """What is neither rule nor label is a usage error that lists both."""
    with pytest.raises(UnknownNameError) as caught:
        make_attempts(make_split(3), 3, rule=rule)
    known = ("--targets", "random", "all", "next", "least-likely", "untargeted", *CLASSES)
    assert all(name in str(caught.value) for name in known)


@pytest.mark.parametrize("images", [None, 50, 60])
def test_all_images_are_chosen(images):
    """None, or as many as there are or more, is all of them."""
    assert list(range(50)) == choose_images(make_split(50), images).tolist()


def test_smaller_choices_are_within_larger_ones():
    """A choice of n images is a part of every larger choice, and in order."""
    split = make_split(50)
    choices = [choose_images(split, n).tolist() for n in (1, 7, 20, 49)]
    assert [len(choice) for choice in choices] == [1, 7, 20, 49]
    assert all(choice == sorted(set(choice)) for choice in choices)
    assert all(set(few) < set(more) for few, more in itertools.pairwise(choices))


# ---- success


@pytest.mark.parametrize(
    ("clean", "after", "source", "target", "success"),
    [
        (0, 1, 0, 1, True),
        (0, 2, 0, 1, False),  # another wrong label than the one aimed at
        (0, 0, 0, 1, False),
        (2, 1, 0, 1, False),  # wrong before
        (1, 1, 0, 1, False),  # there already
        (0, 1, 0, UNTARGETED, True),
        (0, 2, 0, UNTARGETED, True),
        (0, 0, 0, UNTARGETED, False),
        (2, 1, 0, UNTARGETED, False),
    ],
)
def test_success_is_right_before_and_at_the_target_after(clean, after, source, target, success):
    """The one definition of success, targeted and untargeted."""
    one_hot = np.eye(3, dtype=np.float32)
    result = is_success(one_hot[[clean]], one_hot[[after]], np.array([source]), np.array([target]))
    assert [success] == result.tolist()


@pytest.mark.parametrize("untargeted", [False, True])
def test_arriving_is_succeeding_of_images_that_were_right(untargeted):
    """The batch under attack is judged by the same rule."""
    source_label = np.arange(60) % 10
    target = np.full(60, UNTARGETED) if untargeted else (source_label + 3) % 10
    after = noisy_logits(60)
    clean = np.eye(10, dtype=np.float32)[source_label]
    arrived = has_arrived(*map(torch.from_numpy, (after, source_label, target)))
    assert is_success(clean, after, source_label, target).tolist() == arrived.tolist()
    assert 0 < arrived.sum() < 60


@pytest.mark.parametrize(
    ("logits", "source", "target", "label"),
    [
        ((3, 2, 1), 0, 2, 2),  # aimed at, whatever came out
        ((1, 2, 3), 0, 1, 1),
        ((1, 2, 3), 0, UNTARGETED, 2),  # reached
        ((2, 3, 1), 0, UNTARGETED, 1),
        ((3, 1, 2), 0, UNTARGETED, 2),  # failed: the closest wrong one
        ((1, 3, 2), 1, UNTARGETED, 2),
    ],
)
def test_target_label_is_aimed_at_or_reached(logits, source, target, label):
    """Untargeted: the label reached, or the closest wrong one where none was; never the source."""
    given = np.array([logits], dtype=np.float32)
    assert [label] == aimed_or_reached(given, np.array([source]), np.array([target])).tolist()
    assert [list(logits)] == given.tolist()
