"""The perturbation balls: draws, steps, projections, and rounding to the stored precision."""

import numpy as np
import pytest
import torch

from jsdelta_db.compute.attacks import BALLS, apply_delta
from jsdelta_db.compute.attacks.balls import L2Ball, LinfBall
from jsdelta_db.config.attack import AttackConfig
from jsdelta_db.config.checks import NORMS
from jsdelta_db.runtime import seeding

from .attack_cases import (
    generator,
    make_attempts,
    make_images,
    make_linear,
    make_plane,
    make_split,
    run,
    time_limit,
)

SIZES = [("linf", size) for size in (0.1 / 255, 1 / 255, 3 / 255, 8 / 255, 0.1, 1.0)]
SIZES += [("l2", size) for size in (0.001, 0.01, 0.25, 0.5, 3.0, 100.0)]


def length(change, norm):
    """Length of each change in float64, by the definition."""
    order = {"linf": torch.inf, "l2": 2}[norm]
    return torch.linalg.vector_norm(change.double().flatten(1), ord=order, dim=1)


def test_each_norm_has_a_ball():
    """What a configuration may ask for is what there is."""
    assert set(NORMS) == set(BALLS)
    assert all(name == ball.norm for name, ball in BALLS.items())


@pytest.mark.parametrize("norm", NORMS)
def test_size_is_the_length_in_the_norm(norm):
    """Per image, whatever its shape."""
    change = torch.randn(3, 2, 5, 7, generator=generator())
    torch.testing.assert_close(length(change, norm), BALLS[norm].size(change).double())


@pytest.mark.parametrize("norm", NORMS)
def test_noise_has_the_length_asked_for(norm):
    """Signs become noise of that length, every pixel alike."""
    signs = torch.where(torch.rand(3, 2, 5, 7, generator=generator()) < 0.5, -1.0, 1.0)
    noise = BALLS[norm].spread(signs, 0.3)
    torch.testing.assert_close(torch.full((3,), 0.3, dtype=torch.float64), length(noise, norm))
    assert torch.equal(signs, noise.sign())
    assert float(noise.abs().min()) == float(noise.abs().max())


# ---- draws


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 2, 2), (3, 4, 5)])
@pytest.mark.parametrize("norm", NORMS)
def test_draws_are_uniform_in_the_unit_ball(norm, shape):
    """All are inside, as often on either side, and the share within radius r is r^d."""
    draws = np.stack([BALLS[norm].draw(seeding.generator("t", i), shape) for i in range(500)])
    assert (np.float32, (500, *shape)) == (draws.dtype, draws.shape)
    radius = length(torch.from_numpy(draws), norm).numpy()
    assert radius.max() <= 1 + 1e-6
    # Kolmogorov and Smirnov: 1.95/√n is passed once in a thousand.
    volume = np.sort(radius ** np.prod(shape))
    assert np.abs(volume - (np.arange(500) + 0.5) / 500).max() < 1.95 / np.sqrt(500)
    deviation = draws.std(axis=0) / np.sqrt(500)
    assert (np.abs(draws.mean(axis=0)) < 4.5 * deviation).all()


# ---- projections and steps


@pytest.mark.parametrize(("norm", "eps"), SIZES)
def test_projection_leads_inside(norm, eps):
    """From wherever: within ε to float32 rounding, within [0, 1] exactly; what is inside stays."""
    x = make_images(4, (2, 3, 5))
    ball = BALLS[norm](x, eps)
    inside = ball.project_(x + 3 * eps * torch.randn(x.shape, generator=generator()))
    # Half a float32 step per pixel, for each of the two sums.
    assert (length(inside - x, norm) <= eps * (1 + 1e-6) + 2.0**-23 * np.sqrt(30)).all()
    assert 0 <= float(inside.min()) <= float(inside.max()) <= 1
    near = (x + 0.1 * eps * (0.5 - x)).clamp(0, 1)
    near = x + (near - x) * float((0.5 * eps / length(near - x, norm)).min().clamp(max=1))
    torch.testing.assert_close(near, ball.project_(near.clone()), rtol=0, atol=1e-6)


@pytest.mark.parametrize("norm", NORMS)
def test_projection_changes_its_argument_in_place(norm):
    """No new batch is made, and the clean images are not touched."""
    x = make_images(2)
    before = x.clone()
    x_adv = x + 0.5
    assert BALLS[norm](x, 0.1).project_(x_adv) is x_adv
    assert torch.equal(before, x)


def test_projection_onto_the_euclidean_ball_keeps_the_direction():
    """Where no end of the range is met, what is too long is shortened to ε."""
    x = torch.full((2, 1, 2, 2), 0.5)
    change = torch.tensor([3.0, -4.0, 0.0, 0.0]).view(1, 1, 2, 2) / 100  # of length 0.05
    projected = L2Ball(x, 0.02).project_(x + torch.cat([change, change / 5]))
    torch.testing.assert_close(torch.cat([change * 0.4, change / 5]), projected - x, rtol=0, atol=1e-7)


@pytest.mark.parametrize("norm", NORMS)
def test_a_step_has_the_length_asked_for_and_goes_down(norm):
    """However long the gradient is; without one, nothing moves."""
    x = torch.full((3, 1, 3, 3), 0.5)
    gradient = torch.randn(x.shape, generator=generator()) * torch.tensor([1e-12, 1e6, 0.0]).view(3, 1, 1, 1)
    moved = BALLS[norm](x, 0.3).step_(x.clone(), gradient.clone(), 0.1) - x
    torch.testing.assert_close(torch.tensor([0.1, 0.1, 0.0]).double(), length(moved, norm), atol=1e-6, rtol=0)
    assert ((moved * gradient).flatten(1).sum(1)[:2] < 0).all()


@pytest.mark.parametrize("norm", NORMS)
def test_a_gradient_that_is_not_a_number_moves_nothing(norm):
    """Nor does it reach the other images, or keep the rounding from ending."""
    x = torch.full((2, 1, 2, 2), 0.5)
    gradient = torch.ones_like(x)
    gradient[0] = torch.nan
    ball = BALLS[norm](x, 0.1)
    with time_limit(2):
        delta = ball.stored(ball.step_(x.clone(), gradient, 0.05))
    assert not delta[0].any()
    assert (delta[1] < 0).all()


# ---- what is stored


@pytest.mark.parametrize(
    ("n", "shape"), [(1, (1, 5, 7)), (3, (1, 1, 1)), (3, (3, 4, 9)), (8, (2, 8, 8)), (8, (1, 5, 7))]
)
@pytest.mark.parametrize(("norm", "eps"), SIZES)
def test_samples_stay_in_the_ball_and_in_range(n, shape, norm, eps):
    """Exactly, in float64, as stored: no change is longer than ε, and no pixel leaves [0, 1]."""
    split = make_split(n, shape, classes=3)
    config = AttackConfig(eps=eps, norm=norm, steps=3)
    samples = run(make_linear(shape), split, make_attempts(split, n, tuple("abc")), config)
    x = split.images
    x_adv = apply_delta(x, torch.from_numpy(samples.delta))
    change = x_adv.double() - x.double()
    assert float(length(change, norm).max()) <= eps
    assert 0 <= float(x_adv.min()) <= float(x_adv.max()) <= 1
    assert (np.float16, (n, *shape)) == (samples.delta.dtype, samples.delta.shape)
    assert getattr(samples, norm).max() <= eps
    for name in NORMS:
        np.testing.assert_allclose(length(change, name), getattr(samples, name), rtol=1e-12)


@pytest.mark.parametrize(
    ("norm", "eps"), [("linf", 1 / 255), ("linf", 8 / 255), ("linf", 0.1), ("l2", 0.01), ("l2", 0.5)]
)
def test_the_ball_is_used_to_its_rim(norm, eps):
    """Rounding to the stored precision costs less than a thousandth of ε."""
    split = make_split(4, classes=2)
    split.images.mul_(0.2).add_(0.4)
    config = AttackConfig(eps=eps, norm=norm, steps=5)
    samples = run(make_plane(), split, make_attempts(split, 4, ("a", "b")), config)
    assert getattr(samples, norm).min() >= eps * (1 - 1e-3)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("eps", [1e-30, 1e-9, 2.0**-24, 2.0**-23, 1e-6])
def test_the_smallest_eps_stays_in_the_ball(norm, eps):
    """However small ε is, rounding ends and stays in the ball."""
    x = make_images(2, (1, 3, 3))
    ball = BALLS[norm](x, eps)
    with time_limit(2):
        delta = ball.stored(ball.project_(x + 1e-3))
    assert float(length(apply_delta(x, delta).double() - x.double(), norm).max()) <= eps


@pytest.mark.parametrize("ball", [LinfBall, L2Ball])
def test_delta_is_rounded_to_the_nearest_half(ball):
    """Well inside the ball each change is stored to half a float16 step."""
    x = torch.full((1, 1, 8, 8), 0.5)
    x_adv = x + (torch.rand(x.shape, generator=generator()) - 0.5) * 0.06
    delta = ball(x, 0.5).stored(x_adv)
    assert torch.float16 == delta.dtype
    assert torch.equal((x_adv - x).to(torch.float16), delta)


@pytest.mark.parametrize(("norm", "eps"), [("linf", 8 / 255), ("l2", 0.01), ("l2", 0.3)])
def test_each_image_is_rounded_by_itself(norm, eps):
    """What is stored of an image does not depend on which others are in the batch."""
    x = make_images(32, (1, 5, 7))
    x_adv = BALLS[norm](x, eps).project_(x + torch.randn(x.shape, generator=generator()))
    together = BALLS[norm](x, eps).stored(x_adv)
    alone = [BALLS[norm](x[i : i + 1], eps).stored(x_adv[i : i + 1]) for i in range(32)]
    assert torch.equal(torch.cat(alone), together)
