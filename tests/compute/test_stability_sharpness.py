"""How firmly a sample sits at its label, and how sharp a model's minimum is: closed forms."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from jsdelta_db.compute.attacks import describe_samples
from jsdelta_db.compute.attacks.stability import DRAWS, measure_stability, sign_noise
from jsdelta_db.compute.data import Split
from jsdelta_db.compute.models.networks import Normalized, SmallCNN
from jsdelta_db.compute.models.sharpness import RADIUS, sharpness
from jsdelta_db.records import Attempts

CPU = torch.device("cpu")
EPS = 0.1
SHAPE = (1, 4, 4)


def make_attempts(n, first=0):
    """Attempts on ``n`` images towards label 1."""
    index = np.arange(first, first + n)
    return Attempts(index, np.zeros(n, dtype=np.int64), np.ones(n, dtype=np.int64))


class Plane(nn.Module):
    """Says 1 where w·x > bias, else 0."""

    def __init__(self, w, bias):
        super().__init__()
        self.w, self.bias = nn.Parameter(w), bias

    def forward(self, x):
        score = (x * self.w).flatten(1).sum(1) - self.bias
        return torch.stack([-score, score], 1)


def stability_of(model, x_adv, attempts, target=1, norm="linf", seed=0, eps=EPS):
    """Measure it the way the pipeline does."""
    logits = np.eye(2, dtype=np.float32)[np.full(len(attempts), target)]
    unchanged = torch.zeros_like(x_adv)
    samples = replace(
        describe_samples(attempts, x_adv, unchanged, logits, logits),
        target_label=np.full(len(attempts), target),
    )
    return measure_stability(model, samples, norm=norm, eps=eps, seed=seed, device=CPU)


# ---- stability


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_stability_of_a_plane_is_the_share_of_noises_on_its_side(norm):
    """For a linear model each draw's answer is known: the sign of w·(x + noise) − bias."""
    generator = torch.Generator().manual_seed(0)
    w = torch.randn(SHAPE, generator=generator)
    x = torch.full((12, *SHAPE), 0.5)  # far from black and white: nothing is clipped
    attempts = make_attempts(12)
    reach = EPS / 2 if norm == "linf" else EPS / 2 / math.sqrt(16)
    expected = np.zeros(12)
    for draw in range(DRAWS):
        noise = sign_noise(attempts, SHAPE, "stability", 0, draw) * reach
        expected += ((x + noise) * w).flatten(1).sum(1).numpy() > float(w.sum()) * 0.5
    model = Plane(w, float(w.sum()) * 0.5)
    stability = stability_of(model, x, attempts, norm=norm)
    assert stability.tolist() == (expected / DRAWS).tolist()
    assert 0 < stability.mean() < 1


@pytest.mark.parametrize(
    ("margin", "expected"), [(EPS / 2 + 1e-4, 1.0), (-EPS / 2 - 1e-4, 0.0)], ids=["out of reach", "beyond"]
)
def test_stability_is_1_where_no_noise_reaches_the_boundary(margin, expected):
    """A distance of more than ε/2 in the norm cannot be crossed, whichever side it is on."""
    w = torch.full(SHAPE, 1 / 16)  # w·noise is at most ε/2
    x = torch.full((5, *SHAPE), 0.5)
    assert stability_of(Plane(w, 0.5 - margin), x, make_attempts(5)).tolist() == [expected] * 5


def test_noise_stays_an_image():
    """White stays white under noise upwards: x_adv + noise is clipped to [0, 1]."""
    seen = []

    class Watching(Plane):
        def forward(self, x):
            seen.append((float(x.min()), float(x.max())))
            return super().forward(x)

    x = torch.cat([torch.zeros(1, *SHAPE), torch.ones(1, *SHAPE)])
    stability_of(Watching(torch.ones(SHAPE), 0.0), x, make_attempts(2))
    assert seen == [(0.0, 1.0)] * DRAWS


def test_stability_depends_on_seed_image_and_target_alone():
    """A sample's draws are the same in any company and order; another seed has others."""
    w = torch.randn(SHAPE, generator=torch.Generator().manual_seed(0))
    model, x = Plane(w, float(w.sum()) * 0.5), torch.full((40, *SHAPE), 0.5)
    attempts = make_attempts(40)
    whole = stability_of(model, x, attempts)
    order = np.array([7, 3, 30])
    assert stability_of(model, x[order], attempts.pick(order)).tolist() == whole[order].tolist()
    assert stability_of(model, x, attempts, seed=1).tolist() != whole.tolist()


def test_sign_noise_is_of_signs_and_differs_among_draws():
    """Every value is +1 or −1, about as many of each; draws, purposes and images have their own."""
    attempts = make_attempts(50)
    noise = [sign_noise(attempts, SHAPE, purpose, 0, draw) for purpose in ("a", "b") for draw in (0, 1)]
    for part in noise:
        assert part.dtype == torch.float32
        assert set(part.unique().tolist()) == {-1.0, 1.0}
        assert abs(float(part.mean())) < 0.15  # 800 signs: 4 standard errors
        assert not torch.equal(part[0], part[1])
    for i in range(4):
        for j in range(i):
            assert not torch.equal(noise[i], noise[j])


# ---- sharpness


class Constant(nn.Module):
    """Two classes with logits (w, −w), whatever the image: the loss is a function of one number."""

    def __init__(self, w):
        super().__init__()
        self.w = nn.Parameter(torch.tensor([w]))

    def forward(self, x):
        return torch.stack([self.w, -self.w], 1).expand(len(x), 2)


def make_split(labels):
    """A split of black images."""
    n = len(labels)
    return Split(torch.zeros(n, *SHAPE), torch.tensor(labels), np.arange(n))


def loss_of(w, share):
    """Mean cross-entropy where a share of the labels is 0."""
    return share * math.log1p(math.exp(-2 * w)) + (1 - share) * math.log1p(math.exp(2 * w))


@pytest.mark.parametrize(("w", "labels"), [(0.3, [0, 0, 0, 1]), (-1.0, [0, 0, 1]), (2.0, [0])])
def test_sharpness_is_the_rise_at_one_step_uphill(w, labels):
    """With one weight the step of length ρ goes straight up the loss: L(w ± ρ) − L(w)."""
    share = labels.count(0) / len(labels)
    slope = loss_of(w + 1e-6, share) - loss_of(w - 1e-6, share)
    uphill = w + math.copysign(RADIUS, slope)
    expected = loss_of(uphill, share) - loss_of(w, share)
    assert sharpness(Constant(w), make_split(labels), CPU) == pytest.approx(expected, rel=1e-4)
    assert expected > 0


def test_sharpness_of_a_parabola():
    """Near its minimum a loss is a parabola: the rise is ρ|g| + ½·h·ρ², with h the curvature."""
    w, labels, radius = 0.01, [0, 1], 0.1
    gradient = (loss_of(w + 1e-4, 0.5) - loss_of(w - 1e-4, 0.5)) / 2e-4
    curvature = (loss_of(w + 1e-3, 0.5) - 2 * loss_of(w, 0.5) + loss_of(w - 1e-3, 0.5)) / 1e-6
    expected = radius * gradient + curvature * radius**2 / 2
    assert sharpness(Constant(w), make_split(labels), CPU, radius) == pytest.approx(expected, rel=0.02)


def test_sharpness_at_a_flat_point_is_zero():
    """Where no weight has a gradient there is nowhere to step: 0, not NaN."""
    model = Constant(0.0)
    assert sharpness(model, make_split([0, 1]), CPU) == pytest.approx(0.0, abs=1e-7)


def test_sharpness_is_that_of_the_whole_split():
    """The gradient is the whole split's, over as many batches as it takes."""
    labels = [0] * 500 + [1] * 100
    once = sharpness(Constant(0.3), make_split([0, 0, 0, 0, 0, 1]), CPU)
    assert sharpness(Constant(0.3), make_split(labels), CPU) == pytest.approx(once, rel=1e-4)


@pytest.mark.parametrize("fails", [False, True], ids=["finished", "failed"])
def test_the_model_comes_back_as_it_was(fails):
    """Weights, statistics, gradients, flags and modes are untouched, even if a batch fails half-way."""
    torch.manual_seed(0)
    model = Normalized(SmallCNN(10, 1, 8, width=4), (0.5,), (0.3,)).train()
    model.network.features[1].eval()
    model.network.classifier.bias.requires_grad_(False)
    model.network.classifier.weight.grad = torch.ones_like(model.network.classifier.weight)
    state = {name: value.clone() for name, value in model.state_dict().items()}
    flags = [weight.requires_grad for weight in model.parameters()]
    gradients = [None if weight.grad is None else weight.grad.clone() for weight in model.parameters()]
    modes = [module.training for module in model.modules()]
    split = Split(torch.rand(300, 1, 8, 8), torch.arange(300) % 10, np.arange(300))
    calls = []

    def stop(*arguments):
        calls.append(arguments)
        if len(calls) == 4:  # the second batch at the step's end
            raise KeyboardInterrupt

    handle = model.register_forward_hook(stop) if fails else None
    if fails:
        with pytest.raises(KeyboardInterrupt):
            sharpness(model, split, CPU)
        handle.remove()
    else:
        assert sharpness(model, split, CPU) > 0
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert [weight.requires_grad for weight in model.parameters()] == flags
    assert [module.training for module in model.modules()] == modes
    for weight, gradient in zip(model.parameters(), gradients, strict=True):
        assert (weight.grad is None) == (gradient is None)
        assert gradient is None or torch.equal(weight.grad, gradient)
