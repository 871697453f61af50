"""Sharpness of a model's minimum, against closed forms."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from jsdelta_db.compute.data import Split
from jsdelta_db.compute.models.networks import Normalized, SmallCNN
from jsdelta_db.compute.models.sharpness import RADIUS, sharpness
from tests.waits import Readings

CPU = torch.device("cpu")
SHAPE = (1, 4, 4)


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


@pytest.mark.parametrize("batches", [1, 3])
def test_the_host_waits_a_few_times_however_many_weights_and_batches_there_are(batches):
    """The norm of the gradient and the two losses are read, once each."""
    model = Normalized(SmallCNN(10, 1, 8, width=2), (0.5,), (0.3,))
    n = 256 * batches
    split = Split(torch.rand(n, 1, 8, 8), torch.arange(n) % 10, np.arange(n))
    with Readings() as readings:
        sharpness(model, split, CPU)
    assert readings.count == 3
