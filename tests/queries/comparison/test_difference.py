"""Differences of fractions on arrays: by hand, against SciPy and statsmodels, and in simulated draws."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import ks_2samp, norm, wasserstein_distance
from scipy.stats import t as student
from statsmodels.stats.multitest import multipletests

from jsdelta_db.queries.comparison.difference import Counted, Difference, find_difference, holm
from jsdelta_db.queries.comparison.distances import kolmogorov_smirnov, wasserstein
from jsdelta_db.queries.statistics import OfModels, Unit, shares, spread_over_models
from jsdelta_db.queries.statistics.models import ATTACKS

NOBODY = OfModels(0)
SAMPLES = st.lists(st.integers(0, 8), min_size=1, max_size=30)


def _difference(a, b, of_models=NOBODY, of_sides=(NOBODY, NOBODY)) -> Difference:
    sides = [Counted(*(np.array(each, dtype=float) for each in side)) for side in (a, b)]
    return find_difference(*sides, of_models, lambda: of_sides)


@pytest.mark.filterwarnings("ignore:divide by zero:RuntimeWarning")  # of SciPy's p, which is not asked for
@given(SAMPLES, SAMPLES)
def test_distances_are_scipys(one, other):
    """Kolmogorov-Smirnov's and Wasserstein's distance, ties and all."""
    a, b = np.array(one, dtype=float), np.array(other, dtype=float)
    assert kolmogorov_smirnov(a, b) == pytest.approx(ks_2samp(a, b, method="asymp").statistic)
    assert wasserstein(a, b) == pytest.approx(wasserstein_distance(a, b))


@pytest.mark.parametrize("distance", [kolmogorov_smirnov, wasserstein])
def test_nothing_has_no_distance(distance):
    """An empty sample has no distribution."""
    assert distance(np.zeros(0), np.ones(2)) is None
    assert distance(np.ones(2), np.zeros(0)) is None


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_is_statsmodels(p_values):
    """The adjusted p-values, in the order given; those that are none count for nothing."""
    expected = multipletests(p_values, method="holm")[1]
    with_gaps = [each for p in p_values for each in (p, None)]
    assert holm(with_gaps)[::2] == pytest.approx(list(expected))
    assert set(holm(with_gaps)[1::2]) == {None}


def test_difference_by_hand():
    """Paired by image: errors subtract before they are squared; Satterthwaite's degrees of freedom."""
    hits_a, hits_b = [2, 1, 0, 2, 1, 0, 1, 2, 1, 2], [1, 1, 0, 1, 0, 0, 1, 2, 0, 1]
    trials = [2] * 10
    of_models = OfModels(4, ((0.001, 3),), "images+models")
    found = _difference((hits_a, trials), (hits_b, trials), of_models)
    u = [((x - 1.2) - (y - 0.7)) / 20 for x, y in zip(hits_a, hits_b, strict=True)]
    v_img = 10 / 9 * sum(each**2 for each in u)
    v = v_img + 0.001
    nu = v**2 / (v_img**2 / 9 + 0.001**2 / 3)
    assert found.value == pytest.approx(0.25)
    assert (found.low, found.high) == pytest.approx(
        tuple(0.25 + sign * student.ppf(0.975, nu) * math.sqrt(v) for sign in (-1, 1))
    )
    assert found.inner == pytest.approx(
        tuple(0.25 + sign * student.ppf(0.95, nu) * math.sqrt(v) for sign in (-1, 1))
    )
    assert found.p == pytest.approx(2 * student.sf(0.25 / math.sqrt(v), nu))
    assert found.mde == pytest.approx((student.ppf(0.975, nu) + student.ppf(0.8, nu)) * math.sqrt(v))
    assert (found.share_models, found.covers) == (pytest.approx(0.001 / v), "images+models")


def test_an_image_of_one_side_counts():
    """Images with rows on one side alone add their error to that side."""
    a = ([1, 0] * 5 + [0] * 4, [1] * 10 + [0] * 4)
    b = ([0, 0] + [1, 0] * 5 + [1, 1], [0, 0] + [1] * 12)
    found = _difference(a, b)
    errors = [(h - 5 / 10 * t) / 10 - (k - 7 / 12 * n) / 12 for h, t, k, n in zip(*a, *b, strict=True)]
    spread = math.sqrt(14 / 13 * sum(e * e for e in errors))
    assert (found.value, found.n_images) == (pytest.approx(5 / 10 - 7 / 12), 14)
    assert found.high == pytest.approx(found.value + student.ppf(0.975, 13) * spread)


def test_few_images_of_a_kind_take_the_sides_own_intervals():
    """With four images that carry a hit on one side, the bounds are put together from both sides', without p."""
    a = ([1] * 4 + [0] * 26, [1] * 26 + [2] * 4)
    b = ([1, 0] * 15, [1] * 30)
    found = _difference(a, b, OfModels(3, ((1.0, 2),), "images+models"))
    own = [shares(np.array([h], float), np.array(t, float))[0] for h, t in (a, b)]
    low = found.value - math.sqrt((own[0].value - own[0].low) ** 2 + (own[1].high - own[1].value) ** 2)
    high = found.value + math.sqrt((own[0].high - own[0].value) ** 2 + (own[1].value - own[1].low) ** 2)
    assert (found.low, found.high, found.p) == (pytest.approx(low), pytest.approx(high), None)
    assert (found.is_sparse, found.covers, found.inner) == (True, "images", (found.low, found.high))
    many = ([1] * 5 + [0] * 25, [1] * 30)
    assert not _difference(many, b).is_sparse


def test_all_or_none_on_a_side_still_have_an_interval():
    """No hit on one side, all on the other: Wilson's bounds over images, never beyond ±1."""
    found = _difference(([0] * 20, [1] * 20), ([1] * 20, [1] * 20))
    assert (found.value, found.low, found.judge(None)) == (-1.0, -1.0, "lower")
    assert -1 < found.high < 0


@pytest.mark.parametrize(
    ("a", "b", "value"),
    [
        (([0, 0], [0, 0]), ([1, 0], [1, 1]), None),  # no rows
        (([1], [2]), ([0], [1]), 0.5),  # one image
        (([1, 0] * 8, [1] * 16), ([1, 0] * 8, [1] * 16), 0.0),  # no spread
    ],
)
def test_nothing_to_say_gives_neither_interval_nor_verdict(a, b, value):
    """Without rows, of one image, or without any spread there are no bounds, no p, and nothing is decided."""
    found = _difference(a, b)
    assert (found.value, found.low, found.high, found.p) == (value, None, None, None)
    assert (found.judge(0.5), found.is_within(0.5)) == ("undecided", None)


@pytest.mark.parametrize(
    ("low", "high", "inner", "verdict", "equivalent"),
    [
        (-0.3, -0.1, (-0.28, -0.12), "lower", False),
        (0.1, 0.3, (0.12, 0.28), "higher", False),
        (-0.04, -0.01, (-0.035, -0.015), "lower", True),  # both: small, and not 0
        (-0.04, 0.06, (-0.03, 0.045), "equivalent", True),
        (-0.04, 0.06, (-0.03, 0.05), "undecided", False),  # strictly inside
        (-0.2, 0.3, (-0.1, 0.2), "undecided", False),
    ],
)
def test_verdicts(low, high, inner, verdict, equivalent):
    """Beside 0 first, then within the margin; equivalence goes by the 90 % interval and stands for itself."""
    found = Difference((low + high) / 2, 30, low, high, inner=inner)
    assert (found.judge(0.05), found.is_within(0.05)) == (verdict, equivalent)
    assert found.judge(None) == ("undecided" if verdict == "equivalent" else verdict)


@pytest.mark.parametrize(("images", "truth_a", "truth_b"), [(30, 0.5, 0.3), (100, 0.4, 0.4), (100, 0.2, 0.1)])
def test_intervals_of_differences_cover_the_truth(images, truth_a, truth_b):
    """Nominal 95 % cover at least 92 % over draws of images and of five seed-paired models a side.

    The chance of a hit is a probit of an image's, a seed's and a model's own effect, so that its mean is known.
    """
    draw = np.random.default_rng(images + round(100 * truth_a))
    n_draws, members, targets = 400, 5, 2
    of_image, of_seed, of_model = 0.7, 0.3, 0.15
    scale = math.sqrt(1 + of_image**2 + of_seed**2 + of_model**2)
    covered = 0
    for _ in range(n_draws):
        image = draw.normal(scale=of_image, size=(1, images, 1))
        seed = draw.normal(scale=of_seed, size=(members, 1, 1))
        hits = []
        for truth in (truth_a, truth_b):
            model = draw.normal(scale=of_model, size=(members, 1, 1))
            mean = norm.ppf(truth) * scale + image + seed + model
            hits.append((draw.normal(size=(members, images, targets)) < mean).sum(2).astype(float))
        trials = np.full(images, members * targets, float)
        without = [
            ((hits[0].sum() - hits[0][m].sum()) - (hits[1].sum() - hits[1][m].sum()))
            / ((members - 1) * images * targets)
            for m in range(members)
        ]
        units = [Unit(str(m), "pair", ATTACKS, "pair") for m in range(members)]
        sides = [Counted(some.sum(0), trials) for some in hits]
        found = find_difference(*sides, spread_over_models(units, without), lambda: (NOBODY, NOBODY))
        covered += found.low <= truth_a - truth_b <= found.high
    assert covered / n_draws >= 0.92
