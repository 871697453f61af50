"""Captured steps on a card: replays are counted, and end where uncaptured steps do."""

import numpy as np
import pytest
import torch
from torch import nn

from jsdelta_db.compute.attacks import PreparedAttack, find_perturbations, prepare
from jsdelta_db.compute.attacks.capture import CudaGraphs
from jsdelta_db.compute.data import Dataset, Split
from jsdelta_db.compute.models import build_model, predict
from jsdelta_db.compute.models.equivalence import probe_images
from jsdelta_db.config.attack import AttackConfig
from jsdelta_db.config.checks import NORMS
from jsdelta_db.records import FOLDED
from jsdelta_db.runtime.devices import resolve_device

from .attack_cases import EPS, make_attempts, stir_batch_norm

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA card"),
]

WIDTHS = {"cnn-small": 8, "resnet8": 8, "resnet18": 16, "resnet50": 16, "vit-small": 32}
N, STEPS = 24, 25
CONFIG = {"steps": STEPS, "images": N}


@pytest.fixture(scope="module")
def device():
    return resolve_device("cuda")


@pytest.fixture(scope="module")
def colour():
    """A data set of 3×32×32 bytes with ten classes."""
    images = torch.randint(
        0, 256, (64, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    split = Split(images, torch.arange(64) % 10, np.arange(64))
    splits = dict.fromkeys(("train", "baseline", "attack"), split)
    return Dataset("colour", tuple("abcdefghij"), (0.5, 0.4, 0.3), (0.2, 0.3, 0.4), splits)


@pytest.fixture
def replays(monkeypatch):
    """Count captures and replays."""
    counted = {"captures": 0, "replays": 0}
    capture = CudaGraphs.capture

    def counting(self, step):
        counted["captures"] += 1
        replay, result = capture(self, step)

        def replaying():
            counted["replays"] += 1
            replay()

        return replaying, result

    monkeypatch.setattr(CudaGraphs, "capture", counting)
    return counted


def networks(name, colour, device, count=1):
    """Networks whose batch norms are not the identity, on the card."""
    made = [build_model(name, colour, width=WIDTHS[name], seed=seed).eval() for seed in range(count)]
    return [stir_batch_norm(each).to(device) for each in made]


def attack(models, colour, device, dtype=torch.float32, *, captured=True, **settings):
    """Attack a few images; the models beyond the first are surrogates."""
    split = colour.splits["attack"]
    images = probe_images(split, device)
    prepared = [prepare(each, images, dtype) for each in models]
    assert all(each.prepared_as == FOLDED for each in prepared)
    if not captured:
        for each in prepared:
            each.capture.is_allowed = False
    norm = settings.get("norm", "linf")
    config = AttackConfig(**{"eps": {"linf": 8 / 255, "l2": 0.5}[norm], **CONFIG, **settings})
    clean_logits = predict(models[0], split, device)
    attempts = make_attempts(split, N, colour.classes)
    made = PreparedAttack(prepared[0], prepared[1:], config, N)
    found = find_perturbations(made, attempts, split.batch(slice(0, N)), clean_logits[:N])
    torch.cuda.synchronize(device)
    return found


def same(one, other, name):
    """Convolutional networks bitwise; a transformer's products may be grouped otherwise in a graph."""
    if name != "vit-small":
        np.testing.assert_array_equal(one.delta, other.delta)
        np.testing.assert_array_equal(one.logits, other.logits)
    else:
        assert (one.delta == other.delta).mean() > 0.99
        np.testing.assert_allclose(one.logits, other.logits, rtol=0, atol=1e-2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("name", WIDTHS)
def test_captured_steps_are_the_uncaptured_ones(name, norm, dtype, colour, device, replays):
    """On every kind of network, in every norm and dtype: 3 steps warm up, the others are replayed."""
    models = networks(name, colour, device)
    plain = attack(models, colour, device, dtype, captured=False, norm=norm)
    assert replays == {"captures": 0, "replays": 0}
    captured = attack(models, colour, device, dtype, norm=norm)
    assert replays == {"captures": 1, "replays": STEPS - 3}
    same(plain, captured, name)
    assert (captured.delta != 0).any()


@pytest.mark.parametrize("stop", ["never", "first-hit"])
@pytest.mark.parametrize("objective", ["target", "margin", "bug", "feature"])
@pytest.mark.parametrize("norm", NORMS)
def test_every_objective_can_be_captured(norm, objective, stop, colour, device, replays):
    """With surrogates and with an end that is asked for."""
    models = networks("resnet8", colour, device, 3 if objective in ("bug", "feature") else 1)
    settings = {"norm": norm, "objective": objective, "stop": stop}
    plain = attack(models, colour, device, captured=False, **settings)
    captured = attack(models, colour, device, **settings)
    assert replays["captures"] == 1
    assert replays["replays"] > 0
    same(plain, captured, "resnet8")


@pytest.mark.parametrize("name", WIDTHS)
def test_the_same_chunk_gives_the_same_bytes_on_a_card(name, colour, device, replays):
    """Whatever ran before; attention too, whose fused backward pass adds up in any order."""
    models = networks(name, colour, device)
    first = attack(models, colour, device)
    attack(models, colour, device, seed=1)
    again = attack(models, colour, device)
    np.testing.assert_array_equal(first.delta, again.delta)
    np.testing.assert_array_equal(first.logits, again.logits)
    assert replays["captures"] == 3


def test_first_hit_ends_early(colour, device, replays):
    """Once all images have arrived no more than nine steps follow."""
    models = networks("cnn-small", colour, device)
    attack(models, colour, device, eps=0.9, steps=500, stop="first-hit")
    assert 0 < replays["replays"] < 400


class Waiting(nn.Module):
    """A network that reads a value in forward(), as torch.fx still traces."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, x):
        return self.network(x) * torch.ones_like(x).mean().item()


def test_a_network_that_waits_is_attacked_uncaptured(colour, device, replays):
    """The same samples, one line that says why; the stream and the debug mode are as before."""
    (network,) = networks("cnn-small", colour, device)
    plain = attack([network], colour, device, captured=False)
    said, before = [], torch.cuda.current_stream()
    split = colour.splits["attack"]
    prepared = prepare(Waiting(network).eval(), probe_images(split, device))
    assert prepared.prepared_as == FOLDED
    prepared.capture.tell = said.append
    config = AttackConfig(eps=8 / 255, **CONFIG)
    logits = predict(network, split, device)
    attempts, x = make_attempts(split, N, colour.classes), split.batch(slice(0, N))
    for _ in range(2):
        found = find_perturbations(PreparedAttack(prepared, (), config, N), attempts, x, logits[:N])
    same(plain, found, "cnn-small")
    assert len(said) == 1
    assert replays == {"captures": 0, "replays": 0}
    assert torch.cuda.current_stream() == before
    assert torch.cuda.get_sync_debug_mode() == 0


def test_replays_never_wait(colour, device, monkeypatch, replays):
    """A chunk's replays are begun without one synchronization."""
    capture = CudaGraphs.capture
    models = networks("resnet8", colour, device)

    def strict(self, step):
        replay, result = capture(self, step)

        def replaying():
            with self.refusing_waits():
                replay()

        return replaying, result

    monkeypatch.setattr(CudaGraphs, "capture", strict)
    attack(models, colour, device)
    assert replays["replays"] == STEPS - 3


def test_memory_is_flat_over_chunks(colour, device):
    """Each chunk's graph and cache are given back."""
    models, held = networks("resnet18", colour, device), []
    for seed in range(6):
        attack(models, colour, device, seed=seed)
        held.append((torch.cuda.memory_allocated(device), torch.cuda.memory_reserved(device)))
    assert held[1:] == held[:1] * 5


def test_a_chunk_is_halved_where_a_card_is_full(colour, device):
    """With a limit on this process's memory the chunk goes on in smaller batches."""
    models = networks("resnet18", colour, device)
    split = colour.splits["attack"]
    prepared = prepare(models[0], probe_images(split, device))
    logits = predict(models[0], split, device)
    n = 4096
    rows = np.arange(n) % len(split)
    attempts = make_attempts(split, len(split), colour.classes).pick(rows)
    total = torch.cuda.get_device_properties(device).total_memory
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved(device) + 2**30) / total, device)
    try:
        config = AttackConfig(eps=EPS["linf"], steps=12)
        found = find_perturbations(
            PreparedAttack(prepared, (), config, n), attempts, split.batch(rows), logits[rows]
        )
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, device)
    assert found.sub_batch is not None
    assert found.delta.shape[0] == n
    assert prepared.capture.is_allowed
