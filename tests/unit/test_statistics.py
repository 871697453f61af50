"""Intervals: Wilson's against SciPy and statsmodels, the bootstrap over images against what it must be."""

import numpy as np
import pytest
from scipy.stats import binomtest, norm

from jsdelta_db import statistics
from jsdelta_db.statistics import BOOTSTRAP_DRAWS, Z_95, FractionIntervals, Interval, resampled_sums, wilson

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


def test_drawing_in_blocks_changes_nothing(monkeypatch):
    """Many images are drawn block by block, to save memory: the same draws, the same sums."""
    sums = np.random.default_rng(3).random((60, 3))
    whole = resampled_sums(sums)
    assert whole.shape == (BOOTSTRAP_DRAWS, 3)
    for at_once in (60 * BOOTSTRAP_DRAWS - 1, 60 * 301, 60, 1):
        monkeypatch.setattr(statistics, "DRAWS_AT_ONCE", at_once)
        np.testing.assert_allclose(whole, resampled_sums(sums), rtol=1e-13)


def test_each_draw_is_as_many_images_as_there_are():
    """Images are drawn with replacement: every draw holds as many, and each is drawn once on average."""
    counts = resampled_sums(np.eye(40))
    assert {40.0} == set(counts.sum(1))
    assert set(np.unique(counts)) > {0.0, 1.0, 2.0, 3.0}
    np.testing.assert_allclose(counts.mean(0), 1.0, atol=0.1)


def test_bootstrap_covers_the_truth():
    """In 100 samples of clustered rows the 95 % interval holds the true share in at least 88."""
    covered = 0
    for seed in range(100):
        image, hits, trials = _clustered(seed=seed)
        got = FractionIntervals(image).interval(hits, trials)
        covered += got.low <= 0.3 * 0.98 + 0.7 * 0.02 <= got.high
    assert covered >= 88
