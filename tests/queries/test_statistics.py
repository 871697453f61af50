"""Intervals: Wilson's against SciPy and statsmodels, the bootstrap over images against what it must be."""

from dataclasses import astuple

import numpy as np
import pytest
from scipy.stats import binomtest, norm, poisson

from jsdelta_db.queries import statistics
from jsdelta_db.queries.statistics import (
    BINS,
    BOOTSTRAP_DRAWS,
    IMAGES_AT_ONCE,
    Z_95,
    Fraction,
    FractionIntervals,
    Interval,
    difference_of_means,
    fraction_intervals,
    matched_difference,
    ratio_of_means,
    resampled_sums,
    wilson,
)

TABLE = [
    (0, 1), (1, 1), (0, 7), (7, 7), (1, 2), (1, 30), (29, 30), (3, 10), (15, 30), (95, 600), (500, 1000),
    (1, 100_000), (99_999, 100_000), (0, 10**6), (10**6, 10**6),
]  # fmt: skip


def test_z_is_the_97_5_percent_point():
    """The constant that stands for SciPy's function, which is slow to import."""
    assert norm.ppf(0.975) == pytest.approx(Z_95, rel=1e-15)


@pytest.mark.parametrize(("k", "n"), TABLE)
def test_wilson_is_scipys(k, n):
    """The closed form equals SciPy's interval."""
    expected = binomtest(k, n).proportion_ci(method="wilson")
    np.testing.assert_allclose((expected.low, expected.high), wilson(k, n), rtol=1e-9, atol=1e-15)


def test_wilson_is_statsmodels():
    """The closed form equals statsmodels' interval."""
    from statsmodels.stats.proportion import proportion_confint

    for k, n in TABLE:
        expected = proportion_confint(k, n, method="wilson")
        np.testing.assert_allclose(expected, wilson(k, n), rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize("n", [1, 10, 12345])
def test_wilson_ends_exactly(n):
    """No success ends at exactly 0 below, nothing but successes at exactly 1 above."""
    assert wilson(0, n)[0] == 0.0
    assert wilson(n, n)[1] == 1.0
    assert wilson(0, n)[1] > 0.0
    assert wilson(n, n)[0] < 1.0


@pytest.mark.parametrize(("k", "n"), [(0, 0), (1, 0), (2, 1), (-1, 5)])
def test_wilson_refuses_what_is_no_fraction(k, n):
    """Without trials, or with more successes than trials, there is no interval."""
    with pytest.raises(ValueError, match=f"{k} successes in {n} trials"):
        wilson(k, n)


def _mask(*values):
    return np.array(values, dtype=bool)


def test_one_row_per_image_takes_wilson():
    """Where each image appears once, the interval is Wilson's, and says so."""
    intervals = FractionIntervals(np.array([5, 3, 9, 1]))
    got = intervals.interval(_mask(1, 0, 0, 0), _mask(1, 1, 1, 0))
    assert Interval(*wilson(1, 3), kind="wilson") == got


@pytest.mark.parametrize("images", [[0, 1, 2], [0, 0, 1]])
def test_without_trials_there_is_no_interval(images):
    """A fraction of nothing has no interval."""
    nothing = np.zeros(3, dtype=bool)
    assert FractionIntervals(np.array(images)).interval(nothing, nothing) is None


@pytest.mark.parametrize(("hits", "k"), [(False, 0), (True, 4)])
def test_all_alike_takes_wilson_over_images(hits, k):
    """Where every row says the same a bootstrap would have no width: images are counted, not rows."""
    image = np.repeat(np.arange(6), 9)
    trials = image < 4  # two images have no trial
    got = FractionIntervals(image).interval(trials & hits, trials)
    assert Interval(*wilson(k, 4), kind="wilson over images") == got


def _clustered(images=80, rows=9, seed=0):
    """Rows of an image that mostly say the same."""
    draws = np.random.default_rng(seed)
    image = np.repeat(np.arange(images), rows)
    hits = np.repeat(draws.random(images) < 0.3, rows) ^ (draws.random(images * rows) < 0.02)
    return image, hits, np.ones(images * rows, dtype=bool)


def test_clustered_rows_take_the_bootstrap():
    """Several rows of an image are not independent: the interval is wider than Wilson's over rows."""
    image, hits, trials = _clustered()
    got = FractionIntervals(image).interval(hits, trials)
    low, high = wilson(hits.sum(), len(hits))
    assert got.kind == "bootstrap"
    assert got.low < hits.mean() < got.high
    assert got.high - got.low > 2 * (high - low)


def test_bootstrap_is_that_of_whole_images():
    """The interval is as wide as the normal one over images, where rows of an image say the same."""
    image = np.repeat(np.arange(400), 5)
    hits = image % 4 == 0
    got = FractionIntervals(image).interval(hits, np.ones(2000, dtype=bool))
    half = Z_95 * np.sqrt(0.25 * 0.75 / 400)
    assert 0.25 - half == pytest.approx(got.low, abs=0.005)
    assert 0.25 + half == pytest.approx(got.high, abs=0.005)


def test_images_may_have_any_names_and_order():
    """Which integers name the images, and how rows are ordered, matters little or not at all."""
    image, hits, trials = _clustered()
    first = FractionIntervals(image).interval(hits, trials)
    assert first == FractionIntervals(image * 7 + 1000).interval(hits, trials)
    order = np.random.default_rng(1).permutation(len(image))
    assert first == FractionIntervals(image[order]).interval(hits[order], trials[order])


def test_bootstrap_is_seeded():
    """The same rows give the same interval twice, in another object and after the cache is gone."""
    image, hits, trials = _clustered()
    first = FractionIntervals(image).interval(hits, trials)
    statistics._weights.cache_clear()
    np.random.seed(0)
    assert first == FractionIntervals(image).interval(hits, trials)


def test_draws_without_trials_are_left_out():
    """Where a draw meets no image with trials its fraction is none, not zero."""
    image = np.repeat(np.arange(50), 2)
    trials = image < 2
    hits = trials & (np.arange(100) % 2 == 0)
    assert Interval(0.5, 0.5, kind="bootstrap") == FractionIntervals(image).interval(hits, trials)


@pytest.mark.parametrize("images", [1, 40, IMAGES_AT_ONCE, IMAGES_AT_ONCE + 3])
def test_an_images_weights_do_not_depend_on_the_others(images):
    """More images add to each draw and change nothing of what was drawn: groups share their draws."""
    counts = resampled_sums(np.eye(images, dtype=np.float32))
    more = resampled_sums(np.eye(images + 700, images, dtype=np.float32))
    assert counts.shape == (BOOTSTRAP_DRAWS, images)
    np.testing.assert_array_equal(counts, more)


def test_images_are_drawn_poisson():
    """How often an image is drawn has Poisson(1)'s shares, mean and variance, and images are independent."""
    counts = resampled_sums(np.eye(600, dtype=np.float32))
    shares = np.bincount(counts.astype(int).ravel()) / counts.size
    expected = poisson(1).pmf(np.arange(len(shares)))
    np.testing.assert_allclose(shares, expected, atol=1e-3)
    assert counts.mean() == pytest.approx(1.0, abs=5e-3)
    assert counts.var() == pytest.approx(1.0, abs=1e-2)
    together = np.corrcoef(counts[:, :100], rowvar=False)
    assert np.abs(together - np.eye(100)).max() < 0.12


def test_groups_are_drawn_together_as_alone():
    """Several fractions at once get the intervals that each would get by itself, in their order."""
    draws = np.random.default_rng(5)
    fractions = []
    for images, single in ((900, False), (40, False), (30, True), (0, False), (2, False)):
        trials = draws.integers(1, 4, images).astype(float)
        fractions.append(Fraction(np.floor(trials * draws.random(images)), trials, single))
    alone = [interval for fraction in fractions for interval in fraction_intervals([fraction])]
    assert alone == fraction_intervals(fractions)
    assert alone[3] is None
    assert [interval.kind for interval in alone[:3]] == ["bootstrap", "bootstrap", "wilson"]


def test_bootstrap_covers_the_truth():
    """In 100 samples of clustered rows the 95 % interval holds the true share in at least 88."""
    covered = 0
    for seed in range(100):
        image, hits, trials = _clustered(seed=seed)
        got = FractionIntervals(image).interval(hits, trials)
        covered += got.low <= 0.3 * 0.98 + 0.7 * 0.02 <= got.high
    assert covered >= 88


@pytest.fixture(scope="module")
def rows():
    """Rows of 15 images, some with several: values, two kinds, something to match on, the image."""
    draws = np.random.default_rng(7)
    image = draws.integers(0, 15, 60) * 3 + 100
    # Values in eighths and rounded confidences: ties, as stability and saturated outputs have them.
    return {
        "values": draws.integers(0, 9, 60) / 8,
        "is_first": draws.random(60) < 0.4,
        "matched_on": np.round(draws.random(60), 1),
        "image": image,
    }


def _brute_interval(rows, statistic):
    """Resample whole images row by row, as the definition says, and return the middle 95 %."""
    images = np.unique(rows["image"])
    values = []
    for times in resampled_sums(np.eye(len(images), dtype=np.float32)).astype(int):
        picked = np.concatenate(
            [
                np.repeat(np.flatnonzero(rows["image"] == image), n)
                for image, n in zip(images, times, strict=True)
            ]
        )
        value = statistic(picked)
        if value is not None:
            values.append(value)
    return np.percentile(values, [2.5, 97.5])


def _brute_ratio(rows):
    return lambda at: rows["values"][at].sum() / rows["matched_on"][at].sum()


def _brute_difference(rows):
    def of(at):
        values, first = rows["values"][at], rows["is_first"][at]
        return values[first].mean() - values[~first].mean() if first.any() and (~first).any() else None

    return of


def _brute_matched(rows):
    """Compare within deciles of all rows, one by one."""
    edges = np.quantile(rows["matched_on"], [k / 10 for k in range(1, 10)])
    in_bin = np.array([sum(value >= edge for edge in edges) for value in rows["matched_on"]])

    def of(at):
        total = weight = 0.0
        for number in range(BINS):
            here = at[in_bin[at] == number]
            first, other = here[rows["is_first"][here]], here[~rows["is_first"][here]]
            smaller = min(len(first), len(other))
            if smaller:
                total += smaller * (rows["values"][first].mean() - rows["values"][other].mean())
                weight += smaller
        return total / weight if weight else None

    return of


@pytest.mark.parametrize(
    ("estimate", "arguments", "brute"),
    [
        (ratio_of_means, ("values", "matched_on", "image"), _brute_ratio),
        (difference_of_means, ("values", "is_first", "image"), _brute_difference),
        (matched_difference, ("values", "is_first", "matched_on", "image"), _brute_matched),
    ],
    ids=["ratio", "difference", "matched"],
)
def test_estimates_are_what_their_definition_gives(estimate, arguments, brute, rows):
    """Values and intervals equal those of a plain loop over draws, images and rows."""
    statistic = brute(rows)
    got = estimate(*(rows[name] for name in arguments))
    assert statistic(np.arange(60)) == pytest.approx(got.value, rel=1e-12)
    assert got.low < got.value < got.high
    np.testing.assert_allclose((got.low, got.high), _brute_interval(rows, statistic), rtol=1e-5)


def test_matching_removes_what_the_other_variable_explains():
    """Where values follow from what is matched on alone, kinds differ, and matched kinds do not."""
    matched_on = np.arange(200) / 200
    is_first = np.random.default_rng(1).random(200) > matched_on
    values = np.floor(matched_on * 10) / 10  # the same within a decile
    image = np.arange(200)
    plain, matched = (
        difference_of_means(values, is_first, image), matched_difference(values, is_first, matched_on, image)
    )  # fmt: skip
    assert plain.high < -0.1
    assert (matched.value, matched.low, matched.high) == pytest.approx((0, 0, 0), abs=1e-7)


def test_matching_needs_both_kinds_in_a_decile():
    """Kinds that never share a decile cannot be compared, though their means can."""
    matched_on, image = np.arange(100) / 100, np.arange(100)
    is_first = matched_on < 0.5
    assert difference_of_means(matched_on, is_first, image).value == pytest.approx(-0.5)
    assert matched_difference(matched_on, is_first, matched_on, image) is None


def test_matching_on_a_constant_changes_nothing():
    """Rows that are all alike share one bin: matched and plain difference are the same."""
    values, image = np.arange(40.0), np.arange(40)
    is_first = image % 3 == 0
    plain = difference_of_means(values, is_first, image)
    matched = matched_difference(values, is_first, np.ones(40), image)
    assert astuple(plain) == pytest.approx(astuple(matched), rel=1e-12)


@pytest.mark.parametrize("kind", [True, False])
def test_difference_needs_both_kinds(kind):
    """Without rows of one kind there is no difference; without rows there is nothing."""
    for n in (0, 5):
        values, is_first, image = np.ones(n), np.full(n, kind), np.arange(n)
        assert difference_of_means(values, is_first, image) is None
        assert matched_difference(values, is_first, values, image) is None


def test_ratio_needs_something_below():
    """A ratio to nothing, or to nothing but 0, does not exist."""
    for n in (0, 5):
        assert ratio_of_means(np.ones(n), np.zeros(n), np.arange(n)) is None


def test_estimates_resample_images_not_rows():
    """Copies of a row carry no news: repeating each image's rows leaves the interval as it is."""
    draws = np.random.default_rng(2)
    above, below, image = draws.random(50), draws.random(50), np.arange(50)
    once = ratio_of_means(above, below, image)
    many = ratio_of_means(*(np.tile(column, 9) for column in (above, below)), np.tile(image, 9))
    assert (once.value, once.low, once.high) == pytest.approx((many.value, many.low, many.high), rel=1e-6)
