"""Stability of adversarial samples, against closed forms."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from jsdelta_db.compute.attacks import describe_samples
from jsdelta_db.compute.attacks.stability import DRAWS, measure_stability, sign_noise
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
