"""Starts of attacks, and the best of several restarts."""

import dataclasses
import itertools

import numpy as np
import pytest
import torch

from jsdelta_db.compute.attacks import BALLS, Steps, apply_delta, build_objective, pgd, prepare
from jsdelta_db.compute.attacks.perturb import start_noise
from jsdelta_db.config.attack import OBJECTIVES, AttackConfig
from jsdelta_db.config.checks import NORMS
from jsdelta_db.records import Attempts

from .attack_cases import EPS, attack_digits, make_attempts, make_cnn, make_split, run, trained_digits

# ---- starts


@pytest.mark.parametrize("norm", NORMS)
def test_starts_are_keyed(norm):
    """A start depends on seed, image, target and restart alone: not on ε, steps, position or company."""
    shape, config = (2, 3, 3), AttackConfig(eps=0.03, norm=norm)
    attempts = Attempts(np.array([5, 9, 5]), np.array([0, 1, 0]), np.array([1, 2, 3]))
    noise = start_noise(attempts, shape, config)
    other = AttackConfig(
        eps=0.1,
        norm=norm,
        steps=7,
        restarts=4,
        objective="margin",
        stop="first-hit",
        dtype="bfloat16",
        images=7,
    )
    assert torch.equal(noise[1:2], start_noise(attempts.chunk(1, 1), shape, other))
    others = [
        start_noise(attempts, shape, AttackConfig(eps=0.03, norm=norm, seed=1)),
        start_noise(attempts, shape, config, restart=1),
        start_noise(attempts, shape, config, restart=2),
    ]
    assert len({part.numpy().tobytes() for batch in (noise, *others) for part in batch}) == 12
    assert (BALLS[norm].size(noise) <= 1 + 1e-6).all()
    assert noise.min() < 0 < noise.max()


@pytest.mark.parametrize("norm", NORMS)
def test_attacks_pair_up_across_models_and_sizes(norm):
    """On another model, or at another ε, each image starts at the same point of the ball."""
    split = make_split(8, (1, 8, 8))
    split.images.mul_(0.5).add_(0.25)
    attempts = make_attempts(split, 8)
    starts = []
    for seed, eps in ((0, 0.1), (1, 0.1), (0, 0.05)):
        # Steps too short to be seen: what comes back is the start.
        config = AttackConfig(eps=eps, norm=norm, steps=1, relative_step_size=1e-6)
        starts.append(run(make_cnn(seed), split, attempts, config).delta.astype(np.float64) / eps)
    for other in starts[1:]:
        np.testing.assert_allclose(starts[0], other, rtol=0, atol=2e-3)
    assert np.abs(starts[0]).max() > 0.2


def test_without_random_start_the_start_is_the_image():
    """No noise is added when none is asked for."""
    attempts = Attempts(np.array([5, 9]), np.array([0, 1]), np.array([1, 2]))
    noise = start_noise(attempts, (1, 2, 2), AttackConfig(eps=0.1, random_start=False))
    assert torch.equal(torch.zeros(2, 1, 2, 2), noise)


# ---- restarts


def one_restart(config, samples, restart):
    """Run one restart by hand: δ as stored, logits and the objective on the models as they are."""
    split, (model, *surrogates) = trained_digits()
    attempts = samples.attempts
    x = split.batch(split.rows_of(attempts.sample_index)).contiguous(memory_format=torch.channels_last)
    labels = (torch.from_numpy(attempts.source_label), torch.from_numpy(attempts.requested_target))
    frozen = [prepare(each, x).frozen for each in (model, *surrogates)]
    ball = BALLS[config.norm](x, config.eps)
    x_adv = pgd(
        build_objective(config.objective, frozen[0], frozen[1:], x, *labels), ball,
        start_noise(attempts, (1, 8, 8), config, restart), Steps(config.steps, config.step_size),
    )  # fmt: skip
    delta = ball.stored(x_adv)
    objective = build_objective(config.objective, model, surrogates, x, *labels)
    with torch.no_grad():
        loss, logits = objective(apply_delta(x, delta))
    return delta.numpy(), logits.argmax(1).numpy() == attempts.requested_target, loss.numpy()


@pytest.mark.parametrize(("norm", "objective"), [*(("linf", name) for name in OBJECTIVES), ("l2", "target")])
def test_the_best_restart_is_kept(norm, objective):
    """Per image: a successful one before one that is not, then the lowest objective."""
    eps = 0.6 * EPS[norm]
    config = AttackConfig(eps=eps, norm=norm, steps=4, restarts=3, objective=objective)
    (samples,) = attack_digits(config, n=60)
    ends = [one_restart(config, samples, restart) for restart in range(3)]
    deltas, successes, losses = map(np.stack, zip(*ends, strict=True))
    kept = np.lexsort((losses, ~successes), axis=0)[0]
    assert len(set(kept.tolist())) == 3
    np.testing.assert_allclose(deltas[kept, np.arange(60)], samples.delta, rtol=0, atol=1e-4)
    assert successes.any(0).tolist() == samples.success.tolist()
    assert 0 < samples.success.sum() < 60


@pytest.mark.parametrize("norm", NORMS)
def test_the_first_restart_is_the_attack_without_restarts(norm):
    """More restarts never lower success, and where the first was best it is kept, byte for byte."""
    config = AttackConfig(eps=0.6 * EPS[norm], norm=norm, steps=4)
    runs = [attack_digits(dataclasses.replace(config, restarts=n), n=100)[0] for n in (1, 2, 4)]
    for fewer, more in itertools.pairwise(runs):
        assert (more.success >= fewer.success).all()
        same = (more.delta == fewer.delta).all(axis=(1, 2, 3))
        assert 0 < same.sum() < 100
    assert runs[-1].success.sum() > runs[0].success.sum()
