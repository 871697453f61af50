"""Intervals: against SciPy, statsmodels, numbers worked out by hand, plain loops and simulated draws."""

from dataclasses import astuple

import numpy as np
import pytest
from scipy.special import expit
from scipy.stats import binomtest, norm
from scipy.stats import t as student

from jsdelta_db.queries.statistics import (
    Estimate,
    Share,
    difference_of_means,
    matched_difference,
    ratio_of_means,
    shares,
    shares_of_rows,
    wilson,
)
from jsdelta_db.queries.statistics.fractions import Z_95
from jsdelta_db.queries.statistics.means import BINS
from jsdelta_db.queries.statistics.student import t_quantile, t_tail

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


@pytest.mark.parametrize("share", [0.5, 0.6, 0.8, 0.9, 0.95, 0.975, 0.99])
def test_t_quantiles_are_scipys(share):
    """Quantiles of Student's t for few and many degrees of freedom, whole or not, are SciPy's to 1e-10."""
    degrees = [1, 1.3, 2, 2.5, 3, 4.75, 9, 29.5, 99, 199.9, 200.1, 5_999, 1e5, 6.7e7]
    expected = student.ppf(share, degrees)
    np.testing.assert_allclose(
        [t_quantile(share, each) for each in degrees], expected, rtol=1e-10, atol=1e-12
    )


def test_t_tails_are_scipys():
    """Tails of Student's t, from one half to 1e-300, are SciPy's to 1e-9."""
    degrees = np.array([1, 1.3, 2, 2.5, 3, 4.75, 9, 29.5, 99, 200.1, 5_999, 1e5])
    values = np.array([0, 1e-3, 0.1, 0.5, 1, 1.96, 3, 5, 10, 30, 100])
    expected = student.sf(values, degrees[:, None])
    got = np.array([[t_tail(value, each) for value in values] for each in degrees])
    np.testing.assert_allclose(got, expected, rtol=1e-9, atol=1e-300)


def _share(hits, trials) -> Share:
    """Return the share of one kind of hits."""
    (found,) = shares(np.array([hits], dtype=float), np.array(trials, dtype=float))
    return found


def _bounds(share) -> tuple[float | None, float | None]:
    return share.low, share.high


def test_images_with_several_rows_take_the_cluster_robust_interval():
    """Worked out by hand: r = 1/2, e = ±1 or 0, V = 6/5 · 4/12², t(5) = 2.5706, logit margin 1.8773."""
    got = _share([2, 0, 1, 0, 2, 1], [2] * 6)
    assert (got.value, got.kind) == (0.5, "cluster-robust")
    assert (got.n_images, got.n_images_hit, got.n_images_other) == (6, 4, 4)
    assert pytest.approx(_bounds(got), abs=5e-5) == (0.13268, 0.86732)


def test_few_images_with_a_hit_have_at_least_the_spread_of_independent_rows():
    """3 hits of 55 rows on 11 images: V = r(1 − r)/T, t(10) = 2.2281, logit −2.8526 ± 1.3230: never [0, …]."""
    got = _share([1, 1, 1] + [0] * 8, [5] * 11)
    assert pytest.approx(_bounds(got), abs=5e-5) == (0.01513, 0.17806)


def test_many_images_with_a_hit_need_no_floor():
    """From five images of each kind on the images' own spread counts, be it smaller than that of rows."""
    hits, trials = np.array([4, 5, 6] * 4), np.full(12, 10)
    got = _share(hits, trials)
    variance = 12 / 11 * ((hits - 0.5 * trials) ** 2).sum() / trials.sum() ** 2
    assert variance < 0.25 / 120
    margin = student.ppf(0.975, 11) * np.sqrt(variance) / 0.25
    assert (expit(-margin), expit(margin)) == pytest.approx(_bounds(got), rel=1e-12)


def test_one_row_per_image_takes_wilson():
    """Where each image has one trial, the rows are independent and Wilson's interval holds."""
    got = _share([1, 0, 0, 0], [1, 1, 1, 0])
    assert Share(1 / 3, *wilson(1, 3), "wilson", 3, 1, 2, "images") == got


@pytest.mark.parametrize(("hit", "n_of"), [(False, (0, 4)), (True, (4, 0))])
def test_all_alike_takes_wilson_over_images(hit, n_of):
    """Where every row says the same there is no spread to see: Wilson's of as many draws as images."""
    trials = np.array([9, 9, 9, 9, 0, 0])  # two images have no trial
    got = _share(trials * hit, trials)
    assert Share(float(hit), *wilson(4 * hit, 4), "wilson over images", 4, *n_of, "images") == got


@pytest.mark.parametrize(
    ("hits", "trials", "value"),
    [([3], [9], 1 / 3), ([9], [9], 1.0), ([1], [1], 1.0), ([1] * 5 + [2] * 5, [3] * 5 + [6] * 5, 1 / 3)],
    ids=["one image", "one image, all hit", "one row", "every image alike"],
)
def test_nothing_to_say_gives_no_bounds(hits, trials, value):
    """One image has no spread that could be seen, nor have images of equal shares: null, not the share itself."""
    got = _share(hits, trials)
    assert (value, None, None, None) == (got.value, *_bounds(got), got.kind)


def test_nothing_has_no_share():
    """Without trials there is neither a share nor an interval."""
    assert Share(None, None, None, None, 0, 0, 0) == _share([0, 0], [0, 0])
    assert Share(None, None, None, None, 0, 0, 0) == _share([], [])


@pytest.mark.parametrize(
    ("n_images", "n_hit", "too_few"), [(30, 5, False), (29, 5, True), (30, 4, True), (30, 26, True)]
)
def test_few_images_are_marked(n_images, n_hit, too_few):
    """Fewer than 30 images, or fewer than 5 with a hit or with another row: rows do not count."""
    hits = np.arange(n_images) < n_hit
    assert _share(hits * 3, [3] * n_images).is_of_too_few is too_few


@pytest.mark.parametrize("copies", [2, 10])
def test_copies_of_rows_say_nothing_new(copies):
    """Repeating each image's rows leaves every interval as it is, up to Wilson's form for single rows."""
    hits, trials = np.array([2, 0, 1, 0, 2, 1]), np.full(6, 2)
    assert _bounds(_share(hits, trials)) == pytest.approx(
        _bounds(_share(hits * copies, trials * copies)), rel=1e-12
    )
    single = np.arange(90) % 3 == 0
    one, many = _share(single, np.ones(90)), _share(single * copies, np.full(90, copies))
    assert one.high - one.low == pytest.approx(many.high - many.low, rel=0.03)


def test_rows_may_come_in_any_order_and_images_have_any_names():
    """Which integers name the images, and how rows are ordered, changes nothing."""
    draws = np.random.default_rng(1)
    image = np.repeat(np.arange(40), 4)
    hits = [draws.random(160) < share for share in (0.2, 0.6)]
    first = shares_of_rows(hits, image)
    order = draws.permutation(160)
    assert first == shares_of_rows([mask[order] for mask in hits], image[order] * 7 - 1000)
    assert [mask.mean() for mask in hits] == [share.value for share in first]


@pytest.mark.parametrize("correlation", [0.1, 0.4])
@pytest.mark.parametrize("share", [0.02, 0.1, 0.5])
@pytest.mark.parametrize("images", [10, 30, 100])
def test_intervals_cover_the_truth(images, share, correlation):
    """Of 1,000 draws of images with 9 rows each, at least 92 % of the nominal 95 % hold the true share."""
    draws = np.random.default_rng((images, round(100 * share), round(10 * correlation)))
    total = 1 / correlation - 1  # of a Beta distribution's parameters, for this correlation within images
    of_image = draws.beta(share * total, (1 - share) * total, (1000, images))
    hits = draws.binomial(9, of_image).astype(float)
    found = shares(hits, np.full(images, 9.0))
    assert all(0 <= each.low <= each.value <= each.high <= 1 for each in found)
    assert sum(each.low <= share <= each.high for each in found) >= 920


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


def _brute_bounds(rows, statistic, scale=None):
    """Leave each image out in turn, and make Student's interval of what becomes of the number."""
    images = np.unique(rows["image"])
    n = len(images)
    without = np.array([statistic(np.flatnonzero(rows["image"] != image)) for image in images])
    value = statistic(np.arange(len(rows["image"])))
    spread = np.sqrt((n - 1) / n * ((without - without.mean()) ** 2).sum())
    margin = student.ppf(0.975, n - 1) * spread
    if scale == "log":
        return value * np.exp(-margin / value), value * np.exp(margin / value)
    return max(value - margin, -1), min(value + margin, 1)


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
    ("estimate", "arguments", "brute", "scale", "tolerance"),
    [
        (ratio_of_means, ("values", "matched_on", "image"), _brute_ratio, "log", 0.1),
        (difference_of_means, ("values", "is_first", "image"), _brute_difference, None, 0.1),
        (matched_difference, ("values", "is_first", "matched_on", "image"), _brute_matched, None, 1e-9),
    ],
    ids=["ratio", "difference", "matched"],
)
def test_estimates_are_what_their_definition_gives(estimate, arguments, brute, scale, tolerance, rows):
    """Values equal those of a plain loop; bounds a jackknife's over images, to first order where linearized."""
    statistic = brute(rows)
    got = estimate(*(rows[name] for name in arguments))
    assert statistic(np.arange(60)) == pytest.approx(got.value, rel=1e-12)
    assert got.low < got.value < got.high
    low, high = _brute_bounds(rows, statistic, scale)
    assert high - low == pytest.approx(got.high - got.low, rel=tolerance)


def test_ratio_by_hand():
    """X = 1, 2, 3 over Y = 2, 2, 2: r = 1, e = −1, 0, 1, V = 3/2 · 2/36, t(2) = 4.3027: 1 · e^±1.2421."""
    got = ratio_of_means(np.array([1.0, 2.0, 3.0]), np.array([2.0, 2.0, 2.0]), np.arange(3))
    assert pytest.approx(astuple(got), rel=1e-4) == (1.0, 0.28879, 3.46277)


def test_difference_by_hand():
    """Means .3 and .7 of two images each: u = ±.05, V = 4/3 · .01, t(3) = 3.1824: −.4 ± .3675."""
    got = difference_of_means(
        np.array([0.2, 0.4, 0.6, 0.8]), np.array([True, True, False, False]), np.arange(4)
    )
    assert pytest.approx(astuple(got), rel=1e-4) == (-0.4, -0.76748, -0.03252)


@pytest.mark.parametrize(
    ("values", "is_first"),
    [([0.5, 1.0], [True, False]), ([0.5, 1.0, 0.8], [True, False, False]), ([0.5, 0.5, 1, 1], [1, 1, 0, 0])],
    ids=["one bug and one feature", "one bug", "no spread"],
)
def test_a_difference_without_spread_has_no_bounds(values, is_first):
    """Of one image, or of images that are all alike, a kind has no spread: null, not [d, d]."""
    values, is_first, image = np.array(values), np.array(is_first, dtype=bool), np.arange(len(values))
    got = difference_of_means(values, is_first, image)
    assert (got.low, got.high) == (None, None)
    matched = matched_difference(values, is_first, np.ones(len(values)), image)
    assert (got.value, None, None) == pytest.approx(astuple(matched))


@pytest.mark.parametrize(
    ("above", "below", "value"),
    [([0.3], [0.6], 0.5), ([0.0, 0.0], [1.0, 2.0], 0.0), ([0.1] * 7, [0.3] * 7, 1 / 3)],
)
def test_a_ratio_without_spread_has_no_bounds(above, below, value):
    """One image, nothing above, or images that are all alike: null, not the ratio itself."""
    got = ratio_of_means(np.array(above), np.array(below), np.arange(len(above)))
    assert (value, None, None) == pytest.approx(astuple(got))


@pytest.mark.parametrize("seed", range(5))
def test_differences_stay_within_their_range(seed):
    """No bound of a difference of stabilities lies below −1 or above 1."""
    draws = np.random.default_rng(seed)
    values = (draws.random(8) < 0.5).astype(float)
    is_first = np.arange(8) % 2 == 0
    for got in (
        difference_of_means(values, is_first, np.arange(8)),
        matched_difference(values, is_first, np.ones(8), np.arange(8)),
    ):
        assert got.low is None or -1 <= got.low < got.value < got.high <= 1


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
    assert Estimate(pytest.approx(0, abs=1e-12), None, None) == matched


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


def test_estimates_count_images_not_rows():
    """Copies of a row carry no news: repeating each image's rows leaves the interval as it is."""
    draws = np.random.default_rng(2)
    above, below, image = draws.random(50), draws.random(50), np.arange(50)
    once = ratio_of_means(above, below, image)
    many = ratio_of_means(*(np.tile(column, 9) for column in (above, below)), np.tile(image, 9))
    assert astuple(once) == pytest.approx(astuple(many), rel=1e-9)
