"""Images of foreign samples: what is read in one way only is converted and told, the rest is refused."""

import numpy as np
import pytest

from jsdelta_db.compute.data import Dataset, Split
from jsdelta_db.errors import DataError, UsageError
from jsdelta_db.samples.foreign import Normalization
from jsdelta_db.samples.foreign.images import as_images
from tests.samples.foreign.cases import N, changed, check, put

DIGITS = Normalization("dataset", "dataset")


@pytest.fixture(scope="module")
def colours():
    """A data set of colour images that are not square."""
    import torch

    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (N, 3, 6, 5), dtype=np.uint8))
    split = Split(images, torch.arange(N) % 2, np.arange(N))
    splits = dict.fromkeys(("train", "baseline", "attack"), split)
    return Dataset("colours", ("a", "b"), (0.4, 0.5, 0.6), (0.2, 0.3, 0.25), splits)


def both(change):
    """Change both images alike."""
    return {"x": change, "x_adv": change}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda x: x.transpose(0, 2, 3, 1), "channels last in (4, 8, 8, 1), read as channels first"),
        (lambda x: x[:, 0], "no axis of channels in (4, 8, 8), read as one channel"),
        (lambda x: x.repeat(3, 1), "three equal channels in (4, 3, 8, 8), read as one"),
        (lambda x: x.transpose(0, 2, 3, 1).repeat(3, 3), "three equal channels in (4, 8, 8, 3), read as one"),
        (lambda x: x.astype(np.float64), "float64, read as float32"),
        (lambda x: x.astype(">f4"), "big-endian float32, read as float32"),
        (lambda x: x.astype(">f8"), "big-endian float64, read as float32"),
        (np.asfortranarray, None),
    ],
)
def test_another_layout_or_type_is_the_same_images(change, told, given, digits):
    """The numbers come out as they went in, and the conversion is told in one line."""
    plain, samples = check(given, digits), check(changed(given, **both(change)), digits)
    assert samples.fingerprint == plain.fingerprint
    assert samples.conversions == (() if told is None else (f"x and x_adv: {told}",))


def test_a_conversion_of_one_array_names_that_one(given, digits):
    """x and x_adv may differ; every conversion is a line of its own."""
    arrays = changed(given, x=lambda x: x[:, 0].astype(np.float64), x_adv=lambda x: x.astype(">f4"))
    assert check(arrays, digits).conversions == (
        "x: no axis of channels in (4, 8, 8), read as one channel",
        "x: float64, read as float32",
        "x_adv: big-endian float32, read as float32",
    )


def test_channels_last_in_colour(colours):
    """Colours end up in their own planes, of images that are not square."""
    planes = colours.splits["attack"].images.numpy()
    images, told = as_images(planes.transpose(0, 2, 3, 1), "x", colours, None)
    assert (images.numpy() * 255).round().astype(int).tolist() == planes.tolist()
    assert told == ["channels last in (4, 6, 5, 3), read as channels first"]


@pytest.mark.parametrize(
    "shape", [(N, 6, 5), (N, 1, 6, 5), (N, 3, 5, 6), (N, 5, 6, 3), (N, 3, 6), (N, 3, 6, 5, 1), (N,)]
)
def test_a_shape_that_is_none_is_refused(shape, colours):
    """Turned, of other channels, or flat: what was seen and what is valid."""
    with pytest.raises(DataError, match=r"x has images of .*; 'colours' has \(3, 6, 5\)"):
        as_images(np.zeros(shape, np.uint8), "x", colours, None)


def test_colour_for_a_grey_data_set_is_refused(given, digits):
    """Three channels that differ are no grey image."""
    coloured = changed(given, x=lambda x: put((1, 2, 3, 3), 0.4)(x.repeat(3, 1)))
    with pytest.raises(DataError, match=r"x has images of \(3, 8, 8\); 'digits' has \(1, 8, 8\)"):
        check(coloured, digits)


def test_float16_of_pixel_levels_is_these_levels(levels, digits):
    """float16 cannot hold k/255; rounded to what was meant, the samples are those of the bytes."""
    halves = changed(levels, **both(lambda x: (x / 255).astype(np.float16)))
    samples = check(halves, digits)
    assert samples.fingerprint == check(levels, digits).fingerprint
    assert samples.conversions == (
        "x and x_adv: float16, read as float32",
        "x and x_adv: rounded to the whole pixel levels that they are",
    )


def test_float16_between_the_levels_is_taken_as_it_is(given, digits):
    """A perturbation that no image writer rounded is not rounded here."""
    halves = changed(given, **both(lambda x: (x + 0.3 / 255).astype(np.float16)))
    samples = check(halves, digits)
    assert samples.x_adv.numpy().tolist() == halves["x_adv"].astype(np.float32).tolist()
    assert samples.conversions == ("x and x_adv: float16, read as float32",)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
def test_a_normalization_is_undone(dtype, levels, digits):
    """(x - mean) / std of whole levels, undone, is these levels again, bit for bit."""
    mean, std = np.float32(digits.mean), np.float32(digits.std)
    normalized = changed(levels, **both(lambda x: ((x / np.float32(255) - mean) / std).astype(dtype)))
    for given_as in (DIGITS, Normalization(digits.mean, digits.std)):
        samples = check(normalized, digits, normalization=given_as)
        assert samples.fingerprint == check(levels, digits).fingerprint
        assert "x and x_adv: the normalization undone (times std, plus mean)" in samples.conversions


def test_a_normalization_is_undone_channel_by_channel(colours):
    """Each channel by its own mean and deviation, also where they come last."""
    x = colours.splits["attack"].batch(slice(None)).numpy().transpose(0, 2, 3, 1)
    normalized = ((x - np.array(colours.mean)) / np.array(colours.std)).astype(np.float32)
    images, _ = as_images(normalized, "x", colours, DIGITS)
    assert images.numpy().transpose(0, 2, 3, 1).tolist() == x.tolist()


@pytest.mark.parametrize(
    ("change", "advice"),
    [
        (lambda x: (x - 0.4757) / 0.047, r"they look normalized: give the --mean and --std that were used, .*"
         r"those of 'digits', --mean dataset --std dataset, are 0\.4757 and 0\.047"),
        (lambda x: put((0, 0, 0, 0), -1)(x * 2 - 1), "they look like -1 to 1: give --mean 0.5 --std 0.5"),
        (lambda x: x * 255, "they look like pixel levels: save them as uint8, or divide them by 255"),
        (lambda x: put((0, 0, 0, 0), -8 / 255)(x), "they look like images that were not clipped: clip them"),
    ],
    ids=["normalized", "-1 to 1", "levels", "not clipped"],
)  # fmt: skip
def test_values_beyond_the_range_say_what_they_look_like(change, advice, given, digits):
    """The range that was seen, and what undoes it."""
    with pytest.raises(DataError, match=rf"values of x are in \[.*\]: must be \[0, 1\]; {advice}"):
        check(changed(given, **both(change)), digits)


@pytest.mark.parametrize(
    ("normalization", "change", "error", "message"),
    [
        (DIGITS, lambda x: x, DataError, r"x are in \[.*\] as they are: leave --mean and --std out"),
        (DIGITS, lambda x: (x * 255).astype(np.uint8), DataError, "x is uint8, which are pixel levels: leave"),
        (Normalization((0.5,), (0.5,)), lambda x: (x - 0.4757) / 0.01, DataError,
         r"with the normalization undone: must be \[0, 1\]; are --mean and --std those of the file\?"),
        (Normalization((0.5, 0.5, 0.5)), lambda x: x - 1, UsageError, "--mean has 3 values: must be 1"),
        (Normalization((0.5,), (0.0,)), lambda x: x - 1, UsageError, r"--std .*out of range: must be \(0, 1\]"),
        (Normalization((127.5,)), lambda x: x - 1, UsageError, r"--mean .*out of range: must be \[0, 1\]"),
        (Normalization((float("nan"),)), lambda x: x - 1, UsageError, "--mean .*out of range"),
    ],
    ids=["not normalized", "bytes", "another", "channels", "std 0", "mean in levels", "nan"],
)  # fmt: skip
def test_a_normalization_that_does_not_fit_is_refused(normalization, change, error, message, given, digits):
    """Undoing what was not done, or with other numbers, would shift every image without a word."""
    with pytest.raises(error, match=message):
        check(changed(given, **both(change)), digits, normalization=normalization)
