"""Properties that hold for every input."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from jsdelta_db.compute.attacks import (
    BALLS,
    PreparedAttack,
    Steps,
    apply_delta,
    build_objective,
    choose_attempts,
    perturb,
    pgd,
    prepare,
)
from jsdelta_db.compute.attacks.targets import choose_images
from jsdelta_db.compute.data import Split
from jsdelta_db.compute.data.dataset import stratified_split
from jsdelta_db.compute.metrics import compare_labels, js_divergence
from jsdelta_db.compute.metrics.divergence import log_probs
from jsdelta_db.compute.models import predict
from jsdelta_db.config.attack import AttackConfig
from jsdelta_db.config.checks import NORMS
from jsdelta_db.config.eps import format_eps, parse_eps
from jsdelta_db.errors import UsageError
from jsdelta_db.queries.statistics import shares, wilson
from jsdelta_db.runtime import seeding

from .strategies import (
    BALL_SIZES,
    EPS,
    LABELS,
    clustered_rows,
    counts,
    image_pairs,
    labels_and_sizes,
    logit_pairs,
)

# No deadline: the first call of a torch function is slow, and so is a busy machine.
quick = settings(max_examples=60, deadline=None)


# ---- the divergence


@quick
@given(logit_pairs())
def test_divergence_is_within_0_and_1(pair):
    """From 0 to 1 bit, never NaN."""
    js = js_divergence(*map(log_probs, pair))
    assert ((js >= 0) & (js <= 1)).all()


@quick
@given(logit_pairs())
def test_divergence_is_symmetric(pair):
    """JS(p, q) = JS(q, p), bit for bit."""
    log_p, log_q = map(log_probs, pair)
    assert js_divergence(log_p, log_q).tolist() == js_divergence(log_q, log_p).tolist()


@quick
@given(logit_pairs())
def test_divergence_from_itself_is_zero(pair):
    """JS(p, p) = 0 exactly."""
    log_p = log_probs(pair[0])
    assert not js_divergence(log_p, log_p).any()


@quick
@given(logit_pairs(), st.randoms(use_true_random=False))
def test_names_of_the_classes_do_not_matter(pair, random):
    """Classes in another order give the same divergence, to rounding."""
    order = list(range(pair[0].shape[1]))
    random.shuffle(order)
    js = js_divergence(*map(log_probs, pair))
    reordered = js_divergence(*(log_probs(np.ascontiguousarray(part[:, order])) for part in pair))
    np.testing.assert_allclose(js, reordered, rtol=0, atol=1e-12)


@quick
@given(logit_pairs())
def test_root_of_the_divergence_is_a_distance(pair):
    """The root of JS obeys the triangle inequality, by way of the uniform distribution."""
    log_p, log_q = map(log_probs, pair)
    log_m = torch.full_like(log_p, -np.log(log_p.shape[1]))
    direct, first, second = (
        js_divergence(*ends).sqrt() for ends in ((log_p, log_q), (log_p, log_m), (log_m, log_q))
    )
    assert (direct <= first + second + 1e-7).all()


@quick
@given(logit_pairs(most_rows=20), st.data())
def test_baseline_is_within_0_and_1_and_symmetric(pair, data):
    """ρ is a mean divergence, the same whichever label comes first."""
    logits = pair[0]
    labels = np.array(data.draw(st.lists(st.integers(0, 1), min_size=len(logits), max_size=len(logits))))
    assume(0 < labels.sum() < len(labels))
    there, back = (compare_labels(logits, labels, [ends])[ends] for ends in ((0, 1), (1, 0)))
    assert 0 <= there.rho <= 1
    assert there.rho == pytest.approx(back.rho, abs=1e-12)
    assert there.rho == pytest.approx(float(there.high.mean()), abs=1e-12)


# ---- ε


@quick
@given(st.integers(1, 10**6), st.integers(1, 10**6))
def test_a_fraction_is_read_as_written(numerator, denominator):
    """A fraction up to 1 is the float of that fraction, one above 1 is refused."""
    text = f"{numerator}/{denominator}"
    if numerator <= denominator:
        assert numerator / denominator == parse_eps(text)
    else:
        with pytest.raises(UsageError):
            parse_eps(text)


@quick
@given(st.floats(1, 255))
def test_eps_round_trip(levels):
    """What is shown can be typed again: the same ε to four digits."""
    eps = parse_eps(repr(levels))
    assert levels / 255 == eps
    assert eps == pytest.approx(parse_eps(format_eps(eps)), rel=2e-3)


@quick
@given(st.floats(1e-4, 1000))
def test_eps_of_l2_round_trip(size):
    """What is shown can be typed again, and means the same to four digits, in the norm's own unit."""
    assert size == parse_eps(repr(size), "l2")
    assert size == pytest.approx(parse_eps(format_eps(size, "l2"), "l2"), rel=2e-3)


@quick
@given(st.text(max_size=12), st.sampled_from(NORMS))
def test_any_text_is_a_size_or_a_usage_error(text, norm):
    """Whatever is typed: a float in (0, 1] or (0, 1000], or one line."""
    try:
        eps, message = parse_eps(text, norm), None
    except UsageError as error:
        eps, message = None, str(error)
    assert repr(text) in message if eps is None else 0 < eps <= {"linf": 1, "l2": 1000}[norm]


# ---- splits, keys and targets


@quick
@given(labels_and_sizes())
def test_stratified_split_partitions(drawn):
    """Every index is in exactly one part, parts have their sizes, and each part is ascending."""
    labels, sizes = drawn
    parts = stratified_split(labels, sizes, "k")
    assert sizes == tuple(len(part) for part in parts)
    assert list(range(len(labels))) == sorted(np.concatenate(parts).tolist())
    assert all((np.diff(part) > 0).all() for part in parts)


@quick
@given(labels_and_sizes())
def test_stratified_split_is_in_proportion(drawn):
    """The first part holds each class in proportion, to less than one image."""
    labels, sizes = drawn
    part = stratified_split(labels, sizes, "k")[0]
    expected = np.bincount(labels, minlength=5) * (sizes[0] / len(labels))
    assert (np.abs(np.bincount(labels[part], minlength=5) - expected) < 1).all()


@quick
@given(st.lists(st.integers(0, 300), min_size=1, max_size=40, unique=True), st.data())
def test_order_of_a_part_is_that_of_the_whole(indices, data):
    """A selection is ordered as it is within any larger one."""
    part = data.draw(st.lists(st.sampled_from(indices), unique=True))
    whole = seeding.order(np.array(indices), "k").tolist()
    assert [i for i in whole if i in part] == seeding.order(np.array(part, dtype=np.int64), "k").tolist()


@quick
@given(st.sets(st.integers(0, 500), min_size=1, max_size=40), st.integers(1, 40), st.integers(1, 40))
def test_chosen_images_are_nested(indices, few, more):
    """A smaller choice of images is within a larger one."""
    index = np.array(sorted(indices))
    split = Split(torch.zeros(len(index), 1, 1, 1), torch.zeros(len(index), dtype=torch.int64), index)
    few, more = sorted((few, more))
    chosen, larger = (choose_images(split, n).tolist() for n in (few, more))
    assert min(few, len(index)) == len(chosen)
    assert set(chosen) <= set(larger)


@quick
@given(LABELS, st.integers(0, 2**31), st.sampled_from(["random", "all", "next", "b", "4"]))
def test_targets_are_other_labels(labels, seed, rule):
    """No image is aimed at its own label, and each row belongs to its image."""
    index = np.arange(len(labels)) + 1000
    attempts = choose_attempts(rule, index, labels, tuple("abcde"), seed)
    assert (attempts.requested_target != attempts.source_label).all()
    assert ((attempts.requested_target >= 0) & (attempts.requested_target < 5)).all()
    assert labels[attempts.sample_index - 1000].tolist() == attempts.source_label.tolist()


# ---- the ball


def length(change, norm):
    """Length of a change in float64."""
    return float(change.double().norm(p={"linf": torch.inf, "l2": 2}[norm]))


@quick
@given(image_pairs(), BALL_SIZES)
def test_stored_samples_stay_in_the_ball(pair, ball_size):
    """Whatever an attack made of an image: stored and applied, it is in the ball and in [0, 1], exactly."""
    (x, x_adv), (norm, eps) = map(torch.from_numpy, pair), ball_size
    stored = apply_delta(x, BALLS[norm](x, eps).stored(x_adv))
    assert length(stored.double() - x.double(), norm) <= eps
    assert 0 <= float(stored.min()) <= float(stored.max()) <= 1


@quick
@given(image_pairs(), BALL_SIZES, st.floats(0, 4))
def test_projection_is_idempotent(pair, ball_size, far):
    """What was projected is inside and stays: exactly in linf, to float32 rounding in l2."""
    (x, other), (norm, eps) = map(torch.from_numpy, pair), ball_size
    ball = BALLS[norm](x, eps)
    once = ball.project_(x + far * (2 * other - 1))
    assert length(once - x, norm) <= eps * (1 + 1e-6) + 1e-6
    again = ball.project_(once.clone())
    assert float((again - once).abs().max()) <= (0 if norm == "linf" else 2e-7)


@quick
@given(image_pairs(), EPS)
def test_storing_again_changes_nothing(pair, eps):
    """So is rounding, where float32 holds x + δ exactly and no end of the range is met."""
    grey, x_adv = (torch.from_numpy(part).mul(2**23).round().div(2**23) for part in pair)
    x, eps = grey * 0.5 + 0.25, min(eps, 0.25)
    ball = BALLS["linf"](x, eps)
    delta = ball.stored(x_adv)
    assert delta.tolist() == ball.stored(apply_delta(x, delta)).tolist()


@quick
@given(image_pairs(), BALL_SIZES, st.integers(1, 4), st.sampled_from([-1, 0]), st.floats(0, 1))
def test_pgd_stays_in_the_ball(pair, ball_size, steps, target, radius):
    """Every iterate is in the ball, to float32 rounding, and in [0, 1], exactly."""
    (x, noise), (norm, eps) = map(torch.from_numpy, pair), ball_size

    def model(images):
        value = (images * torch.linspace(-1, 1, images[0].numel()).view_as(images)).flatten(1).sum(1)
        return torch.stack([value, -value], 1)

    ball = BALLS[norm](x, eps)
    objective = build_objective("target", model, (), x, torch.tensor([1]), torch.tensor([target]))
    start = (2 * noise - 1) * (radius / max(1.0, length(2 * noise - 1, norm)))
    x_adv = pgd(objective, ball, start, Steps(steps, 2.5 * eps / steps))
    assert length(x_adv.double() - x.double(), norm) <= eps * (1 + 1e-6) + 2.0**-22
    assert 0 <= float(x_adv.min()) <= float(x_adv.max()) <= 1


@settings(max_examples=15, deadline=None)
@given(
    st.integers(0, 2**31), BALL_SIZES, st.integers(1, 3),
    st.sampled_from(["target", "margin"]), st.sampled_from(["random", "untargeted"]),
)  # fmt: skip
def test_restarts_never_lower_success(seed, ball_size, restarts, objective, rule):
    """One restart more: what succeeded still does, and what it replaced was not better."""
    norm, eps = ball_size
    generator = torch.Generator().manual_seed(seed)
    model = torch.nn.Sequential(
        torch.nn.Flatten(), torch.nn.Linear(9, 12), torch.nn.Tanh(), torch.nn.Linear(12, 3)
    )
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=2.0, generator=generator)
    images = torch.rand(6, 1, 3, 3, generator=generator)
    split = Split(images, model(images).argmax(1), np.arange(6))
    attempts = choose_attempts(rule, split.index, split.labels.numpy(), tuple("abc"), seed)
    config = AttackConfig(eps=eps, norm=norm, steps=2, seed=seed, objective=objective)
    prepared, logits = prepare(model, images), predict(model, split, torch.device("cpu"))
    fewer, more = (
        perturb(PreparedAttack(prepared, (), replace(config, restarts=n), 6), attempts, images, logits)
        for n in (restarts, restarts + 1)
    )
    assert (more.success >= fewer.success).all()
    losses = [
        build_objective(
            objective,
            torch.nn.Identity(),
            (),
            images,
            split.labels,
            torch.from_numpy(attempts.requested_target),
        )(torch.from_numpy(samples.logits))[0].numpy()
        for samples in (fewer, more)
    ]
    same = more.success == fewer.success
    assert (losses[1] <= losses[0])[same].all()


@quick
@given(st.integers(0, 2**31), st.integers(0, 10**6), st.integers(1, 5), st.sampled_from(NORMS))
def test_draws_are_in_the_unit_ball(seed, index, side, norm):
    """Whatever the key and the shape, to float32 rounding."""
    draw = BALLS[norm].draw(seeding.generator("start", seed, index), (2, side, 3))
    assert length(torch.from_numpy(draw), norm) <= 1 + 1e-6


# ---- intervals


@quick
@given(counts())
def test_wilson_holds_the_share(drawn):
    """0 ≤ low ≤ share ≤ high ≤ 1, and not of zero width."""
    successes, trials = drawn
    low, high = wilson(successes, trials)
    assert 0 <= low <= successes / trials <= high <= 1
    assert low < high


@quick
@given(counts())
def test_wilson_of_failures_is_the_mirror_image(drawn):
    """Counting failures instead of successes mirrors the interval."""
    successes, trials = drawn
    low, high = wilson(successes, trials)
    assert (1 - high, 1 - low) == pytest.approx(wilson(trials - successes, trials), abs=1e-12)


@quick
@given(clustered_rows())
def test_intervals_of_any_rows(drawn):
    """Within [0, 1] and wider than nothing, or null; equal to the share only where that is 0 or 1."""
    image, hits, trials = drawn
    (got,) = shares(np.bincount(image, hits)[None], np.bincount(image, trials))
    if got.low is None:
        assert (got.high, got.kind) == (None, None)
        return
    assert 0 <= got.low <= got.value <= got.high <= 1
    assert got.low < got.value or got.value == 0
    assert got.value < got.high or got.value == 1
    once = got.n_images == trials.sum()
    assert once == (got.kind == "wilson")
