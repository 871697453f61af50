"""Samples from elsewhere at the border: what is taken, and one line for everything that is not."""

import numpy as np
import pytest
import torch

from jsdelta_db.errors import DataError, UsageError
from jsdelta_db.store.image_keys import split_keys
from tests.samples.foreign.cases import N, changed, check, put

# ---- what is taken


def test_the_data_sets_own_images_are_recognised(given, digits):
    """Images of a split keep their stable index and the split's name, in whatever order they come."""
    order = [2, 0, 3, 1]
    samples = check({name: array[order] for name, array in given.items()}, digits)
    assert samples.split == "attack"
    assert samples.attempts.sample_index.tolist() == digits.splits["attack"].index[order].tolist()
    assert samples.attempts.source_label.tolist() == given["label"][order].tolist()
    assert samples.attempts.requested_target.tolist() == given["target_label"][order].tolist()
    assert samples.x.dtype == samples.x_adv.dtype == torch.float32
    assert samples.x_adv.numpy().tolist() == given["x_adv"][order].tolist()


@pytest.mark.parametrize("split", ["train", "baseline", "attack"])
def test_images_of_every_split_are_recognised(split, digits):
    """Attacks on training or baseline images pair up, too."""
    images = digits.splits[split]
    arrays = {"x": images.batch(slice(5, 9)).numpy(), "label": images.labels.numpy()[5:9]}
    samples = check({**arrays, "x_adv": arrays["x"]}, digits)
    assert (samples.split, samples.attempts.sample_index.tolist()) == (split, images.index[5:9].tolist())


@pytest.mark.parametrize(
    "change",
    [
        {"x": lambda x: x[..., ::-1]},
        {"x": put((1, 0, 3, 3), 0.123)},
        {"label": lambda label: (label + 5) % 10},
        {"x": lambda x: x[[0, 0, 2, 3]], "target_label": put(1, 3), "label": lambda y: y[[0, 0, 2, 3]]},
    ],
    ids=["other images", "one other image", "other labels", "twice towards one label"],
)
def test_images_that_are_not_the_data_sets_are_numbered_by_row(change, given, digits):
    """If one image is not the data set's, or comes twice towards one label, rows stand for indices."""
    arrays = changed(given, **change)
    if "label" in change and len(set(arrays["label"])) < N:
        arrays["target_label"][1] = arrays["target_label"][0]
    samples = check(arrays, digits)
    assert (samples.split, samples.attempts.sample_index.tolist()) == ("file", [0, 1, 2, 3])


def test_copies_of_an_image_have_one_key(given, digits):
    """Images are told apart by content: copies share a key, and the data set's have that of split and index."""
    own, twice = digits.splits["attack"].index[:2], [0, 0, 1, 1]
    arrays = changed(given, x=lambda x: x[twice], label=lambda y: y[twice], target_label=lambda t: t[twice])
    samples = check(arrays, digits)
    assert samples.split == "file"
    assert samples.image_keys.tolist() == split_keys("attack", own[[0, 0, 1, 1]]).tolist()


def test_images_of_several_splits_and_of_none_have_keys(given, digits):
    """Each image is looked up by itself; one of no split has a key of its content, the same in every file."""
    train, attack = digits.splits["train"], digits.splits["attack"]
    other = attack.batch(slice(9, 10)).numpy()[..., ::-1]
    arrays = changed(
        given, x=lambda x: np.concatenate([x[:1], train.batch(slice(5, 6)).numpy(), other, other])
    )
    keys = check(arrays, digits).image_keys
    assert keys[0] == split_keys("attack", attack.index[:1])[0]
    assert keys[1] == split_keys("train", train.index[5:6])[0]
    assert keys[2] == keys[3] < 0
    again = check(changed(given, x=np.repeat(other, N, axis=0)), digits).image_keys
    assert set(again.tolist()) == {keys[2]}


def test_one_image_towards_two_labels_is_still_recognised(given, digits):
    """An image may come several times, as long as each time aims at another label."""
    arrays = changed(given, x=lambda x: x[[0, 0, 2, 3]], label=lambda label: label[[0, 0, 2, 3]])
    arrays["target_label"][:2] = (arrays["label"][0] + [1, 2]) % 10
    assert check(arrays, digits).split == "attack"


def test_an_image_is_recognised_up_to_rounding(given, digits):
    """Another library's float arithmetic around the pixels does not hide whose image it is."""
    samples = check(changed(given, x=lambda x: x.astype(np.float64) * 3 / 3 + 1e-7), digits)
    assert samples.split == "attack"


def test_uint8_is_read_in_units_of_1_255(given, digits):
    """Bytes are pixel levels: 0 is 0.0 and 255 is 1.0, exactly."""
    levels = np.arange(N * 64, dtype=np.uint8).reshape(N, 1, 8, 8)
    samples = check(changed(given, x=levels, x_adv=255 - levels), digits)
    assert samples.x.numpy().tolist() == (levels.astype(np.float32) / 255).tolist()
    assert samples.x_adv.numpy().max() == 1.0
    assert samples.split == "file"


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_every_float_becomes_float32(dtype, given, digits):
    """Floating arrays of any width are taken; tools differ."""
    samples = check(
        changed(given, x=lambda x: x.astype(dtype), x_adv=lambda x_adv: x_adv.astype(dtype)), digits
    )
    expected = given["x_adv"].astype(dtype).astype(np.float32)
    assert samples.x_adv.numpy().tolist() == expected.tolist()


def test_float_rounding_around_the_range_is_taken_and_clipped(given, digits):
    """A black pixel of −3e-8 is black, one of 1 + 1e-7 is white."""
    samples = check(
        changed(given, x_adv=lambda x: put((1, 0, 0, 0), 1 + 1e-7)(put((0, 0, 0, 0), -3e-8)(x))), digits
    )
    assert (float(samples.x_adv.min()), float(samples.x_adv.max())) == (0.0, 1.0)


def test_samples_without_targets_are_untargeted(given, digits):
    """No target_label, or −1 throughout, says that any wrong label was fine."""
    for target in (None, np.full(N, -1)):
        samples = check(changed(given, target_label=target), digits)
        assert samples.attempts.requested_target.tolist() == [-1] * N


def test_the_fingerprint_tells_samples_apart(given, digits):
    """Equal arrays have one fingerprint, whatever they are saved as; any other value has another."""
    prints = [
        check(changed(given, **change), digits).fingerprint
        for change in (
            {},
            {"x": lambda x: x.astype(np.float64), "label": lambda label: label.astype(np.int32)},
            {"x_adv": put((3, 0, 7, 7), 0.5)},
            {"target_label": lambda target: (target + 1) % 10},
            {"target_label": None},
        )
    ]
    assert prints[0] == prints[1]
    assert len(set(prints[1:])) == 4


def test_the_arrays_given_are_left_alone(given, digits):
    """Clipping and reading happen on copies."""
    arrays = changed(given, x_adv=put((0, 0, 0, 0), -1e-7))
    before = {name: array.copy() for name, array in arrays.items()}
    check(arrays, digits)
    for name, array in arrays.items():
        np.testing.assert_array_equal(array, before[name])


# ---- what is not

BAD = [
    ("a target that is the label", {"target_label": lambda t: put(2, t[2] - 1)(t)}, DataError,
     r"image \d+ has label \d and is aimed at the same: must be another label, or -1"),
    ("fewer targets", {"target_label": lambda t: t[:-1]}, DataError,
     "different lengths or none .*label 4, target_label 3.*one row a sample"),
    ("fewer images", {"x_adv": lambda x: x[:2]}, DataError, "different lengths .*x 4, x_adv 2"),
    ("nothing", {name: (lambda array: array[:0]) for name in ("x", "x_adv", "label", "target_label")},
     DataError, "different lengths or none .x 0"),
    ("a number for labels", {"label": np.int64(3), "target_label": None}, DataError, "lengths"),
    ("another size", {"x": np.zeros((N, 1, 4, 4)), "x_adv": np.zeros((N, 1, 4, 4))}, DataError,
     r"x has images of \(1, 4, 4\); 'digits' has \(1, 8, 8\) \(channels, height, width; channels last"),
    ("another size of x_adv", {"x_adv": np.zeros((N, 2, 8, 8))}, DataError, r"x_adv has images of \(2, 8, 8\)"),
    ("too bright", {"x": put((0, 0, 0, 0), 1.01)}, DataError, r"x are in .*1\.01\]: must be \[0, 1\]"),
    ("too dark", {"x_adv": put((0, 0, 0, 0), -0.5)}, DataError, r"x_adv are in \[-0\.5, .*must be \[0, 1\]"),
    ("levels as floats", {"x": lambda x: x * 255, "x_adv": lambda x: x * 255}, DataError, r"must be \[0, 1\]"),
    ("bytes beside floats", {"x": lambda x: (x * 255).astype(np.uint8)}, DataError,
     "x is uint8 and x_adv is float32: must be uint8 for both or floating for both"),
    ("floats beside bytes", {"x_adv": lambda x: (x * 255).astype(np.uint8)}, DataError,
     "x is float32 and x_adv is uint8"),
    ("not a number", {"x": put((2, 0, 1, 1), np.nan)}, DataError, "x of sample 2 holds values that are not fin"),
    ("infinite", {"x_adv": put((1, 0, 1, 1), np.inf)}, DataError, "x_adv of sample 1 holds values that are not"),
    ("whole numbers", {"x": np.zeros((N, 1, 8, 8), int), "x_adv": np.zeros((N, 1, 8, 8), int)}, DataError,
     r"x is int64: must be uint8 in 0..255 or floating"),
    ("complex numbers", {"x": lambda x: x.astype(complex)}, DataError, "x is complex128: must be "),
    ("text", {"x": np.full((N, 1, 8, 8), "a"), "x_adv": np.full((N, 1, 8, 8), "a")}, DataError, "x is <U1"),
    ("labels as floats", {"label": lambda label: label.astype(float)}, DataError,
     r"label is float64 of shape \(4,\): must be whole numbers"),
    ("one-hot of other classes", {"label": np.eye(9, dtype=int)[:N]}, DataError,
     r"label is int64 of shape \(4, 9\): must be whole numbers, .* one-hot of shape \(n, 10\)"),
    ("nearly one-hot", {"label": put((2, 3), 0.5)(np.eye(10)[:N])}, DataError,
     r"label of sample 2 is no one-hot row \(from 0 to 1, 1\.5 in all\)"),
    ("two hot", {"label": put((1, 7), 1)(np.eye(10)[:N])}, DataError, r"label of sample 1 is no one-hot row"),
    ("a label beyond", {"label": put(3, 10)}, DataError, "label of sample 3 is 10; valid for 'digits' is 0 to 9"),
    ("a label below", {"label": put(0, -1)}, DataError, "label of sample 0 is -1; valid for 'digits' is 0 to 9"),
    ("a target beyond", {"target_label": put(1, 99)}, DataError, "target_label of sample 1 is 99; .* is -1 to 9"),
    ("a target below", {"target_label": put(1, -2)}, DataError, "target_label of sample 1 is -2"),
    ("some without a target", {"target_label": put(1, -1)}, DataError, "-1 for some samples only; give targeted"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("change", "error", "message"), [case[1:] for case in BAD], ids=[case[0] for case in BAD]
)
def test_arrays_that_can_not_be_judged_are_refused(change, error, message, given, digits):
    """Each slip is one line that says what was seen and what is valid."""
    with pytest.raises(error, match=message) as raised:
        check(changed(given, **change), digits)
    assert "\n" not in str(raised.value)


def test_a_norm_that_nothing_is_measured_in_is_refused(given, digits):
    """Sizes are measured in linf or l2."""
    with pytest.raises(UsageError, match="--norm 'l1' is not valid: must be linf or l2"):
        check(given, digits, norm="l1")
