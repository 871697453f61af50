"""One temperature per model, and whether evaluators agree on clean images."""

import numpy as np
import pytest
from scipy.spatial.distance import jensenshannon

from jsdelta_db.compute.metrics.agreement import Agreement, clean_outputs, measure_agreement
from jsdelta_db.compute.metrics.draws import MOST_IMAGES
from jsdelta_db.compute.metrics.temperature import HIGHEST, LOWEST, fit_temperature


def softmax(logits):
    """Probabilities in float64."""
    logits = logits.astype(np.float64)
    shifted = np.exp(logits - logits.max(-1, keepdims=True))
    return shifted / shifted.sum(-1, keepdims=True)


def draw(n=4000, classes=5, spread=2.0, seed=0):
    """Logits, and labels drawn from what they say: T = 1 is right, up to sampling."""
    generator = np.random.default_rng(seed)
    logits = (generator.standard_normal((n, classes)) * spread).astype(np.float32)
    labels = np.array([generator.choice(classes, p=row) for row in softmax(logits)])
    return logits, labels


def loss(logits, labels, temperature):
    """Mean −log p at a temperature."""
    probs = softmax(logits / temperature)
    return -np.log(probs[np.arange(len(labels)), labels]).mean()


# ---- temperature


def test_a_calibrated_model_has_temperature_1():
    """Labels drawn from the model's own outputs are likeliest at T = 1."""
    assert fit_temperature(*draw()) == pytest.approx(1.0, abs=0.05)


@pytest.mark.parametrize("factor", [0.25, 3.0, 8.0])
def test_a_sharper_model_has_that_higher_temperature(factor):
    """Logits times k need T times k: softmax(k·z / (k·T)) is the same."""
    logits, labels = draw()
    expected = fit_temperature(logits, labels) * factor
    assert fit_temperature(logits * np.float32(factor), labels) == pytest.approx(expected, rel=1e-3)


def test_two_classes_have_a_closed_form():
    """With logits ±a and a share p of right labels, p = 1/(1 + exp(−2a/T)) gives T = 2a / ln(p/(1−p))."""
    logits = np.tile(np.array([[1.5, -1.5]], dtype=np.float32), (100, 1))
    labels = np.repeat([0, 1], [80, 20])
    assert fit_temperature(logits, labels) == pytest.approx(3.0 / np.log(4.0), rel=1e-4)


def test_no_other_temperature_is_likelier():
    """The likelihood on a fine grid has no better place."""
    logits, labels = draw(n=300, seed=3)
    fitted = loss(logits, labels, fit_temperature(logits, labels))
    grid = [loss(logits, labels, temperature) for temperature in np.geomspace(LOWEST, HIGHEST, 400)]
    assert fitted <= min(grid) + 1e-6


@pytest.mark.parametrize(
    ("label", "low", "high"), [(0, LOWEST, 0.2), (1, HIGHEST * 0.99, HIGHEST)], ids=["never wrong", "always"]
)
def test_temperature_stays_in_its_range(label, low, high):
    """A model that is never wrong would want T = 0, one that is always wrong T = ∞: the bounds hold."""
    logits = np.tile(np.array([[2.0, -2.0]], dtype=np.float32), (20, 1))
    assert low <= fit_temperature(logits, np.full(20, label)) <= high


def test_large_logits_do_not_overflow():
    """Logits in the thousands, which exp() cannot take, still have a finite temperature."""
    logits, labels = draw(n=200)
    assert LOWEST <= fit_temperature(logits * np.float32(1000), labels) <= HIGHEST


# ---- agreement


def test_members_that_say_the_same_agree():
    """The same outputs: full agreement, no divergence, no spread."""
    logits, labels = draw(n=50, spread=5.0)
    same = measure_agreement([logits, logits.copy(), logits.copy()], labels)
    assert (same.same_label, same.js, same.accuracy_spread) == (1.0, 0.0, 0.0)


def test_members_that_hardly_agree():
    """Sure of different labels on half of the images: half of a bit apart, and no spread."""
    eye = np.eye(2, dtype=np.float32) * 100
    labels = np.array([0, 0, 0, 0, 0])
    apart = measure_agreement([eye[[0, 0, 0, 1, 1]], eye[[1, 1, 0, 0, 0]]], labels)
    assert (apart.accuracies, apart.accuracy_spread) == ((0.6, 0.6), 0.0)
    assert apart.same_label == pytest.approx(0.2)
    assert apart.js == pytest.approx(0.8, abs=1e-12)


def test_agreement_is_the_mean_over_pairs_of_members():
    """Against SciPy and counting by hand, on three members that differ."""
    common, _ = draw(n=30, seed=9)
    members = [common + draw(n=30, seed=seed)[0] / 2 for seed in range(3)]
    labels = common.argmax(1)
    found = measure_agreement(members, labels)
    pairs = [(0, 1), (0, 2), (1, 2)]
    same = np.mean([(members[i].argmax(1) == members[j].argmax(1)).mean() for i, j in pairs])
    js = np.mean(
        [jensenshannon(softmax(members[i]), softmax(members[j]), base=2, axis=1) ** 2 for i, j in pairs]
    )
    accuracies = [(member.argmax(1) == labels).mean() for member in members]
    assert found.same_label == pytest.approx(same, abs=1e-15)
    assert found.js == pytest.approx(js, rel=1e-9)
    assert found.accuracy_spread == max(accuracies) - min(accuracies)
    assert 0 < found.same_label < 1


def test_a_member_at_chance_has_no_part_in_the_agreement():
    """Who learned nothing agrees with nobody; it counts as an accuracy and as a divergence alone."""
    logits, labels = np.eye(4, dtype=np.float32)[np.arange(40) % 4] * 9, np.arange(40) % 4
    found = measure_agreement([logits, logits.copy(), np.roll(logits, 1, 1)], labels)
    assert (found.accuracies, found.needed, found.same_label) == ((1.0, 1.0, 0.0), 0.35, 1.0)
    assert found.js > 0.5
    assert measure_agreement([np.roll(logits, 1, 1)] * 2, labels).same_label is None


def test_one_member_agrees_with_itself():
    """Alone there is nobody to differ from."""
    logits, labels = draw(n=20, spread=5.0)
    alone = measure_agreement([logits], labels)
    assert (alone.same_label, alone.js, alone.accuracy_spread) == (1.0, 0.0, 0.0)


@pytest.mark.parametrize(
    ("accuracies", "same_label", "failed"),
    [
        ((0.95, 0.80, 0.75), 0.7, []),
        ((0.95, 0.95, 0.74), 0.7, ["accuracy_spread"]),
        ((0.95, 0.19), 0.9, ["accuracy_spread", "evaluator_accuracy"]),
        ((0.5, 0.5), 0.59, ["agreement_label"]),
        ((0.1, 0.1), None, ["evaluator_accuracy"]),
    ],
)
def test_verdicts_on_the_evaluators(accuracies, same_label, failed):
    """An evaluator at chance, one 20 points under the best, or agreement below 0.6 fails."""
    controls = Agreement(accuracies, 0.2, same_label, 0.1).as_controls()
    assert sorted(each.name for each in controls if each.passed is False) == failed
    assert [each.passed for each in controls if each.name == "agreement_js"] == [None]


# ---- many classes


@pytest.mark.parametrize(("classes", "images"), [(100, 5000), (101, MOST_IMAGES)])
def test_models_are_compared_by_a_draw_where_classes_are_many(classes, images):
    """2,000 images, the same of each model; up to 100 classes all of them."""
    logits = draw(n=5000, classes=classes)[0]
    assert images == len(clean_outputs(logits))
    alike = measure_agreement([logits, logits.copy()], np.zeros(5000, np.int64))
    assert alike.js == 0.0


def test_temperature_of_many_classes_is_fitted_to_a_draw():
    """It is near that of all images."""
    logits, labels = draw(n=5000, classes=101)
    grid = np.geomspace(0.9, 1.1, 21)
    best = grid[np.argmin([loss(logits, labels, each) for each in grid])]
    assert fit_temperature(logits, labels) == pytest.approx(best, rel=0.05)
