"""The training methods' steps, each held against numbers that follow from its definition."""

import dataclasses
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from jsdelta_db.compute import data
from jsdelta_db.compute.attacks import BALLS, PreparedAttack, perturb, prepare
from jsdelta_db.compute.data import Split
from jsdelta_db.compute.models import build_model, predict
from jsdelta_db.compute.training import find_method, steps
from jsdelta_db.compute.training.steps import InnerAttack, Trainee, perturb_batch
from jsdelta_db.config.attack import AttackConfig
from jsdelta_db.config.training import TrainConfig
from jsdelta_db.records import UNTARGETED, Attempts
from tests.compute.training.operations import Operations

CPU = torch.device("cpu")
STANDARD = TrainConfig("digits", "cnn-small", epochs=1)
ADVERSARIAL = {
    "method": "adversarial", "train_norm": "linf", "train_eps": 4 / 255, "train_steps": 5,
    "train_step_size": 1 / 255,
}  # fmt: skip


def _trainee(model, lr=0.5, **changes):
    config = dataclasses.replace(STANDARD, **changes)
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    draws = torch.Generator().manual_seed(0)
    return Trainee(model, model, optimizer, config, draws, InnerAttack(model, model, config))


def test_the_standard_step_is_plain_gradient_descent():
    """One update by the standard method subtracts learning rate times gradient of the cross-entropy."""
    torch.manual_seed(0)
    model = nn.Linear(3, 2)
    x, y = torch.rand(5, 3), torch.tensor([0, 1, 0, 1, 1])
    loss = nn.functional.cross_entropy(model(x), y)
    (gradient,) = torch.autograd.grad(loss, model.weight)
    expected = model.weight.detach() - 0.5 * gradient
    got_loss, logits = find_method("standard")(_trainee(model), x, y)
    torch.testing.assert_close(expected, model.weight.detach())
    assert (float(loss.detach()), False) == (float(got_loss), logits.requires_grad)


class Quadratic(nn.Module):
    """Returns √a·w, of which half the sum of squares is ½·Σ a·w²."""

    def __init__(self, curvature, start):
        super().__init__()
        self.root = curvature.sqrt()
        self.weight = nn.Parameter(start.clone())

    def forward(self, x):
        return self.root * self.weight


@pytest.mark.parametrize("adaptive", [False, True])
@pytest.mark.parametrize("rho", [0.05, 0.3])
def test_sam_on_a_quadratic_is_its_closed_form(adaptive, rho, monkeypatch):
    """L = ½·Σ a·w²: the gradient is a·w, so a step subtracts lr·a·(w + e), e = ρ·g/‖g‖ or ρ·w²g/‖w·g‖."""
    curvature, w = torch.tensor([1.0, 4.0, 0.5]), torch.tensor([1.0, -0.5, 2.0])
    monkeypatch.setattr(steps.F, "cross_entropy", lambda logits, y: 0.5 * logits.square().sum())
    model = Quadratic(curvature, w)
    find_method("sam")(
        _trainee(model, lr=0.1, method="sam", sam_rho=rho, sam_adaptive=adaptive),
        torch.zeros(1),
        torch.zeros(1),
    )
    g = curvature * w
    e = rho * w**2 * g / (w * g).norm() if adaptive else rho * g / g.norm()
    torch.testing.assert_close(w - 0.1 * curvature * (w + e), model.weight.detach(), rtol=1e-6, atol=1e-7)


def _small_network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 10))


def _batch(n=16):
    generator = torch.Generator().manual_seed(1)
    return torch.rand(n, 1, 8, 8, generator=generator), torch.arange(n) % 10


@pytest.mark.parametrize("adaptive", [False, True])
def test_sam_starts_its_update_from_the_weights_it_had(adaptive):
    """With a learning rate of 0 the weights are bit for bit what they were: up and exactly back."""
    model = _small_network().train()
    before = [weight.detach().clone() for weight in model.parameters()]
    find_method("sam")(_trainee(model, lr=0.0, method="sam", sam_rho=0.7, sam_adaptive=adaptive), *_batch())
    assert all(torch.equal(old, new) for old, new in zip(before, model.parameters(), strict=True))


def test_sam_takes_running_statistics_from_its_first_pass_only():
    """Batch norm's statistics after a SAM step are those of one standard pass, and its momentum is as before."""
    states = []
    for method in ("standard", "sam"):
        model = _small_network().train()
        changes = {"method": "sam", "sam_rho": 0.7} if method == "sam" else {}
        find_method(method)(_trainee(model, **changes), *_batch())
        norm = model[2]
        states.append((norm.running_mean, norm.running_var, norm.num_batches_tracked, norm.momentum))
    for once, of_sam in zip(*states, strict=True):
        assert torch.equal(torch.as_tensor(once), torch.as_tensor(of_sam))


@pytest.mark.parametrize("adaptive", [False, True])
def test_sam_costs_hardly_more_kernels_than_two_standard_steps(adaptive):
    """However many weights a network has: going up, back and keeping statistics are a few operations on all."""
    kernels = {}
    for method in ("standard", "sam"):
        model = build_model("resnet8", data.load("digits", Path("unused")), width=4).train()
        sam = {"sam_rho": 0.1, "sam_adaptive": adaptive} if method == "sam" else {}
        trainee = _trainee(model, method=method, **sam)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, foreach=True)  # as on CUDA
        trainee = dataclasses.replace(trainee, optimizer=optimizer)
        x, y = _batch()
        with Operations() as operations:
            find_method(method)(trainee, x, y)
        kernels[method] = operations.kernels
    assert kernels["sam"] <= 2 * kernels["standard"] + 5


def test_sam_keeps_the_statistics_of_layers_that_keep_none():
    """Batch norm without running statistics has none afterwards, and nothing is switched on."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Flatten(), nn.Linear(64, 10), nn.BatchNorm1d(10, track_running_stats=False)
    ).train()
    find_method("sam")(_trainee(model, method="sam", sam_rho=0.7), *_batch())
    assert not model[2].track_running_stats
    assert model[2].running_mean is None


@pytest.fixture(scope="module")
def few_digits():
    """Forty digits and a network that has seen none."""
    dataset = data.load("digits", Path("unused"))
    split = dataset.splits["train"]
    return build_model("cnn-small", dataset, width=4), Split(
        split.images[:40], split.labels[:40], split.index[:40]
    )


@pytest.mark.parametrize(
    ("norm", "eps", "steps", "step_size"),
    [("linf", 4 / 255, 5, 1 / 255), ("linf", 4 / 255, 1, 5 / 255), ("l2", 0.2, 7, 0.05)],
    ids=["pgd", "fgsm", "l2"],
)
def test_the_inner_attack_is_the_attack_engines(norm, eps, steps, step_size, few_digits, monkeypatch):
    """From the same start, adversarial training meets the images that jsdelta attack would make."""
    model, split = few_digits
    model.train()
    x, y = split.batch(slice(None)), split.labels
    trainee = _trainee(
        model, method="adversarial", train_norm=norm, train_eps=eps, train_steps=steps,
        train_step_size=step_size,
    )  # fmt: skip
    before = {name: value.clone() for name, value in model.state_dict().items()}
    x_adv = perturb_batch(trainee, x, y)
    assert model.training
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert all(weight.requires_grad and weight.grad is None for weight in model.parameters())

    start = BALLS[norm].draw_batch(torch.Generator().manual_seed(0), tuple(x.shape))
    monkeypatch.setattr(sys.modules[perturb.__module__], "start_noise", lambda *given: start)
    config = AttackConfig(
        eps=eps, norm=norm, steps=steps, relative_step_size=step_size * steps / eps, targets="untargeted"
    )
    attempts = Attempts(split.index, y.numpy(), np.full(len(y), UNTARGETED))
    attack = PreparedAttack(prepare(model.eval(), x), (), config, len(y))
    samples = perturb(attack, attempts, x, predict(model, split, CPU))
    made = torch.from_numpy(samples.x) + torch.from_numpy(samples.delta).float()
    # The engine keeps float16, and folds batch norm: a pixel whose gradient is nearly 0 may go the other way.
    assert float(((made - x_adv).abs() < 1e-4).float().mean()) > 0.99
    assert float((x_adv - x).abs().max()) > 1e-3


@pytest.mark.parametrize("norm", sorted(BALLS))
def test_starts_are_drawn_where_their_generator_is(norm):
    """A card draws the noise itself: nothing goes over the bus."""

    class OnCard(torch.Generator):
        device = torch.device("cuda:0")

    with FakeTensorMode(), Operations() as operations:
        start = BALLS[norm].draw_batch(OnCard(), (4, 1, 8, 8))
    assert (start.shape, start.device) == ((4, 1, 8, 8), OnCard.device)
    assert operations.to_card == []


def test_the_adversarial_step_descends_on_adversarial_images(few_digits):
    """Its update is the standard one, made on the images that the inner attack found."""
    _, split = few_digits
    x, y = split.batch(slice(None)), split.labels
    states = []
    for adversarial in (True, False):
        torch.manual_seed(0)
        network = build_model("cnn-small", data.load("digits", Path("unused")), width=4).train()
        trainee = _trainee(network, lr=0.1, **ADVERSARIAL)
        batch = x if adversarial else perturb_batch(trainee, x, y)
        find_method("adversarial" if adversarial else "standard")(trainee, batch, y)
        states.append(torch.cat([value.flatten().double() for value in network.state_dict().values()]))
    assert torch.equal(*states)
