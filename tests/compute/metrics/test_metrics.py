"""The metric: the divergence, its baseline with its error, and JSΔ."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from scipy.spatial.distance import jensenshannon

from jsdelta_db.compute.metrics import baseline as baseline_module
from jsdelta_db.compute.metrics import combine_baselines, compare_labels, js_divergence, score
from jsdelta_db.compute.metrics.baseline import ImageMeans
from jsdelta_db.compute.metrics.divergence import js_by_entropies, log_mean_probs, log_probs
from jsdelta_db.compute.metrics.draws import draw_pairs
from jsdelta_db.config.evaluation import MANY_CLASSES
from jsdelta_db.records import Attempts, Baseline, Samples, label_pair


def make_logits(n, classes=4, *, seed=0, scale=3.0):
    return np.random.default_rng(seed).normal(0, scale, (n, classes)).astype(np.float32)


def probs_of(logits):
    return log_probs(logits).exp().numpy()


def scipy_js(p, q):
    """SciPy returns the root of the divergence."""
    return jensenshannon(p, q, base=2) ** 2


def js(one, other):
    """Divergence of the softmax of two lists of logits."""
    return float(js_divergence(*(log_probs(np.array(logits, dtype=np.float32)) for logits in (one, other))))


# ---- the divergence


@pytest.mark.parametrize("classes", [2, 3, 10, 100])
@pytest.mark.parametrize("scale", [0.1, 1.0, 10.0])
def test_divergence_is_scipys_squared(classes, scale):
    """In bits, and the divergence itself: the square of SciPy's distance."""
    one, other = (make_logits(50, classes, seed=seed, scale=scale) for seed in (1, 2))
    expected = [scipy_js(p, q) for p, q in zip(probs_of(one), probs_of(other), strict=True)]
    got = js_divergence(log_probs(one), log_probs(other))
    assert torch.float64 == got.dtype
    np.testing.assert_allclose(expected, got, rtol=0, atol=1e-13)


@pytest.mark.parametrize("n", [1, 2, 3, 5, 8, 17, 64, 1000])
def test_divergence_from_itself_is_exactly_zero(n):
    """Equal outputs give 0, not a rounding error, whatever the batch."""
    log_p = log_probs(make_logits(n, 10, scale=20))
    assert [0.0] * n == js_divergence(log_p, log_p.clone()).tolist()


@pytest.mark.parametrize(
    ("one", "other", "bits"),
    [
        ([1e4, -1e4], [-1e4, 1e4], 1.0),
        ([1e4, 0, 0], [0, 1e4, 0], 1.0),
        ([3e38, -3e38], [-3e38, 3e38], 1.0),
        ([1e4, -1e4], [1e4, -1e4], 0.0),
        ([1e4, 1e4], [-1e4, -1e4], 0.0),
        ([-1e4, -1e4, 1e4], [-1e4, -1e4, 9e3], 0.0),
    ],
)
def test_extreme_logits_give_exact_ends(one, other, bits):
    """Disjoint outputs give exactly 1 bit, equal ones 0, even where probabilities underflow."""
    assert bits == js(one, other)


@pytest.mark.parametrize("size", [50.0, 1e3, 1e4, 1e30])
def test_extreme_logits_stay_finite(size):
    """Whatever finite logits come, the result is a number in [0, 1]."""
    signs = np.array(
        [[a, b, c] for a in (-1, 0, 1) for b in (-1, 0, 1) for c in (-1, 0, 1)], dtype=np.float32
    )
    log_p = log_probs(signs * np.float32(size))
    values = js_divergence(log_p[:, None], log_p[None])
    assert torch.isfinite(values).all()
    assert ((values >= 0) & (values <= 1)).all()
    np.testing.assert_allclose(values, values.T, rtol=0, atol=1e-15)


def test_divergence_is_symmetric_bit_for_bit():
    """The order of the two outputs does not matter."""
    log_p, log_q = (log_probs(make_logits(300, 10, seed=seed)) for seed in (1, 2))
    assert torch.equal(js_divergence(log_p, log_q), js_divergence(log_q, log_p))


@pytest.mark.parametrize("scale", [0.1, 3.0, 30.0, 2000.0])
def test_divergence_by_entropies_is_the_same(scale):
    """To 1e-14 bits, of any rows, also where probabilities underflow."""
    log_p, log_q = (log_probs(make_logits(40, 150, seed=seed, scale=scale)) for seed in (1, 2))
    rows = torch.arange(40), torch.arange(40).flip(0)
    got = js_by_entropies(log_p, log_q, rows)
    np.testing.assert_allclose(got, js_divergence(log_p[rows[0]], log_q[rows[1]]), rtol=0, atol=1e-14)


def test_logits_may_be_shifted():
    """A constant added to all logits changes nothing."""
    assert js([1.0, 2.0, 4.0], [0.0, 3.0, 1.0]) == pytest.approx(
        js([101.0, 102.0, 104.0], [-50.0, -47.0, -49.0])
    )


def test_mean_probabilities():
    """The members' probabilities are averaged, not their logits."""
    logits = np.stack([make_logits(6, seed=seed) for seed in range(3)])
    np.testing.assert_allclose(probs_of(logits).mean(0), log_mean_probs(log_probs(logits)).exp(), rtol=1e-12)


# ---- the baseline


LABELS = np.array([0] * 12 + [1] * 15 + [2] * 11)


def pair_matrix(logits, labels, pair):
    """Divergences of all clean pairs, by a double loop over SciPy's."""
    p = probs_of(logits)
    low, high = (np.flatnonzero(labels == label) for label in pair)
    return np.array([[scipy_js(p[i], p[j]) for j in high] for i in low])


@pytest.mark.parametrize("pair", [(0, 1), (0, 2), (1, 2)])
@pytest.mark.parametrize("block", [20_000, 40, 1])
def test_baseline_is_the_mean_over_all_pairs(pair, block, monkeypatch):
    """ρ is the mean over all clean pairs, in blocks of whatever size, images right or wrong."""
    monkeypatch.setattr(baseline_module, "BLOCK_PAIRS", block)
    logits = make_logits(len(LABELS))
    matrix = pair_matrix(logits, LABELS, pair)
    means = compare_labels(logits, LABELS, [pair])[pair]
    np.testing.assert_allclose(matrix.mean(1), means.low, rtol=1e-11)
    np.testing.assert_allclose(matrix.mean(0), means.high, rtol=1e-11)
    assert matrix.mean() == pytest.approx(means.rho, rel=1e-12)


def test_standard_error_is_that_of_the_design():
    """SE² = var(row means)/n_y + var(column means)/n_t."""
    logits = make_logits(len(LABELS))
    matrix = pair_matrix(logits, LABELS, (0, 1))
    variance = matrix.mean(1).var(ddof=1) / 12 + matrix.mean(0).var(ddof=1) / 15
    means = compare_labels(logits, LABELS, [(0, 1)])[0, 1]
    assert math.sqrt(variance) == pytest.approx(means.standard_error, rel=1e-10)


def test_standard_error_is_that_of_resampled_images():
    """A bootstrap over the images of both labels has the same spread; the naive error is far too small."""
    labels = np.repeat([0, 1], [60, 50])
    logits = make_logits(110) + 2 * np.eye(4, dtype=np.float32)[labels]
    matrix = pair_matrix(logits, labels, (0, 1))
    draws = np.random.default_rng(0)
    means = [matrix[draws.integers(0, 60, 60)][:, draws.integers(0, 50, 50)].mean() for _ in range(4000)]
    got = compare_labels(logits, labels, [(0, 1)])[0, 1].standard_error
    assert np.std(means) == pytest.approx(got, rel=0.08)
    assert matrix.std() / math.sqrt(matrix.size) < 0.4 * got


def test_one_image_has_no_standard_error():
    """With a single image of a label the error is infinite, so JSΔ is not defined by it."""
    means = ImageMeans(np.array([0.5]), np.array([0.4, 0.6]))
    assert math.inf == means.standard_error
    assert not means.as_baseline().is_defined


def test_labels_without_images_have_no_baseline():
    """A label pair of which one label never occurs is left out."""
    logits = make_logits(len(LABELS))
    assert {(0, 1)} == set(compare_labels(logits, LABELS, [(0, 1), (0, 3)]))


def test_large_label_pairs_are_sampled(monkeypatch):
    """Beyond the limit a fixed sample of images stands for all, always the same one."""
    labels = np.repeat([0, 1], [200, 150])
    logits = make_logits(350)
    whole = compare_labels(logits, labels, [(0, 1)])[0, 1]
    monkeypatch.setattr(baseline_module, "MOST_PAIRS", 2500)
    sampled, again = (compare_labels(logits, labels, [(0, 1)])[0, 1] for _ in range(2))
    assert (len(sampled.low), len(sampled.high)) == (50, 50)
    assert sampled.low.tolist() == again.low.tolist()
    assert 0 < abs(sampled.rho - whole.rho) < 4 * sampled.standard_error


def test_up_to_the_limit_all_pairs_count(monkeypatch):
    """Exactly as many pairs as the limit are all compared."""
    monkeypatch.setattr(baseline_module, "MOST_PAIRS", 12 * 15)
    means = compare_labels(make_logits(len(LABELS)), LABELS, [(0, 1)])[0, 1]
    assert (len(means.low), len(means.high)) == (12, 15)


def _evaluators():
    logits = [make_logits(len(LABELS), seed=seed) for seed in range(3)]
    pairs = [(0, 1), (0, 2), (1, 2)]
    return logits, [compare_labels(part, LABELS, pairs) for part in logits]


def test_baseline_of_a_set_is_the_mean_over_its_members():
    """ρ of a set is the mean of its members' ρ; its error is that of the averaged pair matrix."""
    logits, members = _evaluators()
    combined = combine_baselines(members, logits, LABELS)
    assert {(0, 1), (0, 2), (1, 2)} == set(combined)
    for pair, got in combined.items():
        matrix = np.mean([pair_matrix(part, LABELS, pair) for part in logits], axis=0)
        n_low, n_high = matrix.shape
        variance = matrix.mean(1).var(ddof=1) / n_low + matrix.mean(0).var(ddof=1) / n_high
        assert np.mean([member[pair].rho for member in members]) == pytest.approx(got.rho, rel=1e-12)
        assert math.sqrt(variance) == pytest.approx(got.standard_error, rel=1e-10)
        assert (n_low * n_high, min(n_low, n_high)) == (got.pairs, got.images)


def test_baseline_of_the_mean_outputs_without_each_member():
    """Each member left out in turn gives the others' ``rho_of_mean``; a single one leaves nothing."""
    logits, members = _evaluators()
    for left_out in range(3):
        others = combine_baselines(
            [*members[:left_out], *members[left_out + 1 :]],
            [*logits[:left_out], *logits[left_out + 1 :]],
            LABELS,
        )
        for pair, got in combine_baselines(members, logits, LABELS).items():
            assert got.rho_of_mean_without[left_out] == pytest.approx(others[pair].rho_of_mean, abs=1e-14)
    assert combine_baselines(members[:1], logits[:1], LABELS)[0, 1].rho_of_mean_without == ()


def test_baseline_of_the_mean_outputs():
    """``rho_of_mean`` compares the set's mean outputs over the same clean pairs."""
    logits, members = _evaluators()
    mean_logits = np.log(np.mean([probs_of(part) for part in logits], axis=0)).astype(np.float32)
    combined = combine_baselines(members, logits, LABELS)
    for pair, got in combined.items():
        assert pair_matrix(mean_logits, LABELS, pair).mean() == pytest.approx(got.rho_of_mean, rel=1e-5)
        assert got.rho_of_mean < got.rho  # the divergence is convex


def test_one_member_is_a_set_of_its_own():
    """For a single model both baselines are the same number."""
    logits, members = _evaluators()
    combined = combine_baselines(members[:1], logits[:1], LABELS)
    for pair, got in combined.items():
        assert members[0][pair].rho == got.rho
        assert got.rho == pytest.approx(got.rho_of_mean, rel=1e-12)


def test_pairs_that_a_member_lacks_are_left_out():
    """A set has a baseline where all of its members have one."""
    logits, members = _evaluators()
    del members[1][0, 2]
    assert {(0, 1), (1, 2)} == set(combine_baselines(members, logits, LABELS))


def test_a_label_pair_is_unordered():
    """What a change from y to t does is what one from t to y does: one key, one number."""
    assert (2, 7) == label_pair(2, 7) == label_pair(7, 2)
    logits = make_logits(len(LABELS))
    there, back = (compare_labels(logits, LABELS, [pair])[pair] for pair in ((0, 1), (1, 0)))
    assert there.rho == pytest.approx(back.rho, rel=1e-12)
    assert there.standard_error == pytest.approx(back.standard_error, rel=1e-12)


GOOD = Baseline(rho=0.5, rho_of_mean=0.4, standard_error=0.02, pairs=100, images=10)


@pytest.mark.parametrize(
    ("changes", "defined"),
    [
        ({}, True),
        ({"rho": 0.05, "standard_error": 0.005}, True),
        ({"rho": 0.0499, "standard_error": 0.001}, False),
        ({"standard_error": 0.05}, True),
        ({"standard_error": 0.0501}, False),
        ({"standard_error": math.inf}, False),
        ({"images": 9}, False),
        ({"rho": 0.0, "standard_error": 0.0}, False),
    ],
)
def test_where_the_baseline_is_defined(changes, defined):
    """ρ of at least 0.05 bit, an error of at most a tenth of it, and at least 10 images of each label."""
    assert defined == dataclasses.replace(GOOD, **changes).is_defined


# ---- JSΔ


def _samples(source, target, logits, clean_logits=None):
    n = len(source)
    return Samples(
        attempts=Attempts(np.arange(n), np.array(source), np.array(target)), target_label=np.array(target),
        success=np.ones(n, dtype=bool), confidence=np.ones(n), linf=np.zeros(n), l2=np.zeros(n),
        x=np.zeros((n, 1, 1, 1), dtype=np.float32), delta=np.zeros((n, 1, 1, 1), dtype=np.float16),
        clean_logits=logits if clean_logits is None else clean_logits, logits=logits,
    )  # fmt: skip


@pytest.fixture
def scored():
    """Three evaluators, four samples of the label pairs 0-1, 1-0, 0-2 and 2-3."""
    clean = np.stack([make_logits(4, seed=seed) for seed in range(3)])
    adversarial = np.stack([make_logits(4, seed=10 + seed) for seed in range(3)])
    attacked = make_logits(4, seed=20), make_logits(4, seed=21)
    baselines = {(0, 1): GOOD, (0, 2): dataclasses.replace(GOOD, rho=0.01)}
    samples = _samples([0, 1, 0, 2], [1, 0, 2, 3], attacked[1], attacked[0])
    return samples, clean, adversarial, attacked, score(samples, clean, adversarial, baselines)


def test_js_is_the_mean_over_the_evaluators(scored):
    """Each evaluator's divergence is kept, and ``js`` is their mean."""
    _, clean, adversarial, _, scores = scored
    member_js = np.array(
        [
            [scipy_js(p, q) for p, q in zip(probs_of(one), probs_of(other), strict=True)]
            for one, other in zip(clean, adversarial, strict=True)
        ]
    )
    assert (np.float32, (4, 3)) == (scores.member_js.dtype, scores.member_js.shape)
    np.testing.assert_allclose(member_js.T, scores.member_js, rtol=1e-6)
    np.testing.assert_allclose(member_js.mean(0), scores.js, rtol=1e-12)


def test_js_of_mean_without_is_that_of_the_other_evaluators(scored):
    """Each evaluator left out in turn gives what the others alone give; a single one leaves nothing."""
    samples, clean, adversarial, _, scores = scored
    assert (np.float32, (4, 3)) == (scores.js_of_mean_without.dtype, scores.js_of_mean_without.shape)
    for left_out in range(3):
        p, q = (np.delete(probs_of(logits), left_out, 0).mean(0) for logits in (clean, adversarial))
        expected = [scipy_js(one, other) for one, other in zip(p, q, strict=True)]
        np.testing.assert_allclose(expected, scores.js_of_mean_without[:, left_out], rtol=1e-6)
    assert score(samples, clean[:1], adversarial[:1], {}).js_of_mean_without.shape == (4, 0)


def test_js_of_mean_compares_the_mean_outputs(scored):
    """The second aggregation: the divergence of the evaluators' mean outputs."""
    _, clean, adversarial, _, scores = scored
    p, q = probs_of(clean).mean(0), probs_of(adversarial).mean(0)
    np.testing.assert_allclose(
        [scipy_js(*pair) for pair in zip(p, q, strict=True)], scores.js_of_mean, rtol=1e-11
    )


def test_js_attacked_is_the_attacked_models_own(scored):
    """The attacked model's divergence is kept beside, and is not among the evaluators'."""
    _, _, _, (before, after), scores = scored
    expected = [scipy_js(*pair) for pair in zip(probs_of(before), probs_of(after), strict=True)]
    np.testing.assert_allclose(expected, scores.js_attacked, rtol=1e-12)


def test_js_delta_divides_by_the_baseline_of_the_label_pair(scored):
    """JSΔ = js/ρ, the same ρ for y to t and t to y; NaN where there is none or it is not defined."""
    *_, scores = scored
    np.testing.assert_allclose(scores.js[:2] / 0.5, scores.js_delta[:2], rtol=1e-15)
    assert np.isnan(scores.js_delta).tolist() == [False, False, True, True]
    assert np.isfinite(scores.js).all()


def test_js_delta_is_never_clipped():
    """A change larger than a real change of class gives a JSΔ above 1."""
    clean, adversarial = (np.array([[row]], dtype=np.float32) for row in ([50, -50, 0], [-50, 50, 0]))
    samples = _samples([0], [1], adversarial[0], clean[0])
    scores = score(samples, clean, adversarial, {(0, 1): GOOD})
    assert scores.js_delta.tolist() == [2.0]


def test_identity_pairs_have_a_js_delta_of_exactly_zero():
    """Outputs that do not change give 0 in every column."""
    logits = np.stack([make_logits(7, seed=seed) for seed in range(4)])
    scores = score(_samples([0] * 7, [1] * 7, logits[0]), logits, logits.copy(), {(0, 1): GOOD})
    for name in ("js", "js_of_mean", "js_delta", "js_attacked"):
        assert getattr(scores, name).tolist() == [0.0] * 7
    assert not scores.member_js.any()


def test_evaluators_are_counted():
    """How many are right on x and on x_adv, at t on x already, and at t on x_adv."""
    said = np.eye(3, dtype=np.float32) * 5
    clean, adversarial = said[[[0, 0], [0, 1], [2, 1]]], said[[[1, 1], [1, 0], [2, 1]]]
    scores = score(_samples([0, 0], [1, 1], said[[1, 1]], said[[0, 0]]), clean, adversarial, {(0, 1): GOOD})
    assert scores.n_right.tolist() == [2, 1]
    assert scores.n_at_target.tolist() == [0, 2]
    assert scores.n_at_target_adv.tolist() == [2, 2]
    assert scores.n_right_adv.tolist() == [0, 1]


def test_the_order_of_the_evaluators_does_not_matter(scored):
    """Evaluators in another order give the same JSΔ, and their own columns in that order."""
    samples, clean, adversarial, _, scores = scored
    order = [2, 0, 1]
    again = score(samples, clean[order], adversarial[order], {(0, 1): GOOD})
    np.testing.assert_allclose(scores.js, again.js, rtol=1e-14)
    assert scores.member_js[:, order].tolist() == again.member_js.tolist()


def test_temperatures_divide_the_evaluators_logits_alone(scored):
    """Each evaluator's logits are divided by its own T; the attacked model is taken as it is."""
    samples, clean, adversarial, _, plain = scored
    temperatures = [1.0, 2.0, 0.5]
    scores = score(samples, clean, adversarial, {(0, 1): GOOD}, temperatures)
    member_js = np.array(
        [
            [scipy_js(p, q) for p, q in zip(probs_of(one / t), probs_of(other / t), strict=True)]
            for one, other, t in zip(clean, adversarial, np.float32(temperatures), strict=True)
        ]
    )
    np.testing.assert_allclose(member_js.T, scores.member_js, rtol=1e-6)
    assert scores.member_js[:, 0].tolist() == plain.member_js[:, 0].tolist()
    assert scores.js_attacked.tolist() == plain.js_attacked.tolist()
    assert scores.logits is adversarial  # kept undivided: another rule starts from them


# ---- many classes

MANY = MANY_CLASSES + 1


def many_logits(images_a_class=25, n_classes=MANY, seed=0):
    """Logits that know their labels, and the labels."""
    labels = np.repeat(np.arange(n_classes), images_a_class)
    logits = make_logits(len(labels), n_classes, seed=seed, scale=1.0)
    logits[np.arange(len(labels)), labels] += 6.0
    return logits, labels


def test_with_many_classes_some_image_pairs_stand_for_all():
    """100 of 625, the same each time, of which each image has its share; ρ is that of all within its error."""
    logits, labels = many_logits()
    drawn, again = (compare_labels(logits, labels, [(3, 7)])[3, 7] for _ in range(2))
    assert (drawn.as_baseline().pairs, len(drawn.low), len(drawn.high)) == (100, 25, 25)
    assert drawn.low.tolist() == again.low.tolist()
    matrix = pair_matrix(logits, labels, (3, 7))
    assert 0 < abs(matrix.mean() - drawn.rho) < 4 * drawn.standard_error
    variance = matrix.mean(1).var(ddof=1) / 25 + matrix.mean(0).var(ddof=1) / 25
    assert 0.8 * math.sqrt(variance) < drawn.standard_error < 3 * math.sqrt(variance)


@pytest.mark.parametrize(("n_classes", "pairs"), [(MANY_CLASSES, 625), (MANY, 100)])
def test_up_to_100_classes_all_image_pairs_count(n_classes, pairs):
    """Nothing is drawn where the classes are not many."""
    logits, labels = many_logits(n_classes=n_classes)
    assert pairs == compare_labels(logits, labels, [(3, 7)])[3, 7].as_baseline().pairs


def test_few_images_of_many_classes_are_all_compared():
    """Ten images of each label have 100 pairs: no draw."""
    logits, labels = many_logits(10)
    means = compare_labels(logits, labels, [(3, 7)])[3, 7]
    assert means.n_drawn is None
    assert pair_matrix(logits, labels, (3, 7)).mean() == pytest.approx(means.rho, rel=1e-12)


def test_members_draw_the_same_pairs():
    """A set's ρ is its members' mean, and that of its mean outputs is smaller over the same pairs."""
    members = [many_logits(seed=seed)[0] for seed in range(3)]
    labels = many_logits()[1]
    means = [compare_labels(logits, labels, [(3, 7)]) for logits in members]
    got = combine_baselines(means, members, labels)[3, 7]
    assert np.mean([each[3, 7].rho for each in means]) == pytest.approx(got.rho, rel=1e-12)
    assert (got.pairs, got.images) == (100, 25)
    assert got.rho_of_mean < got.rho


@pytest.mark.parametrize(("n", "m"), [(25, 25), (13, 17), (11, 50), (100, 100), (1, 101), (20, 10)])
def test_drawn_pairs_are_different_and_shared_out(n, m):
    """No pair twice; any two images of a label take part equally often, give or take one."""
    low, high, (of_low, of_high) = draw_pairs(np.arange(n), np.arange(n, n + m))
    assert len(set(zip(low[of_low].tolist(), high[of_high].tolist(), strict=True))) == 100
    for place, images in ((of_low, low), (of_high, high)):
        counts = np.bincount(place)
        assert len(images) == len(counts)
        assert counts.max() - counts.min() <= 1


@pytest.mark.parametrize("temperature", [1.0, 1.7])
def test_temperature_divides_the_logits(temperature):
    """As if the logits had been divided before, to the last bit."""
    logits = make_logits(len(LABELS))
    given = compare_labels(logits, LABELS, [(0, 1)], temperature)
    divided = compare_labels(logits / np.float32(temperature), LABELS, [(0, 1)])
    assert given[0, 1].low.tolist() == divided[0, 1].low.tolist()
    both = [combine_baselines([given], [logits], LABELS, [temperature])]
    both.append(combine_baselines([divided], [logits / np.float32(temperature)], LABELS))
    assert both[0] == both[1]


@pytest.mark.parametrize("classes", [2, 10, 100])
def test_log_probabilities_of_some_images_are_those_of_all(classes):
    """To the last bit: baselines take them label by label."""
    logits = make_logits(300, classes)
    rows = np.array([3, 4, 8, 299])
    assert torch.equal(log_probs(logits)[rows], log_probs(logits[rows]))
