"""Shared cases of the attacks' tests: small models with known answers, images, and chunks attacked."""

import contextlib
import functools
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from jsdelta_db.compute import data
from jsdelta_db.compute.attacks import PreparedAttack, choose_attempts, perturb, prepare
from jsdelta_db.compute.data import Split
from jsdelta_db.compute.models.equivalence import probe_images
from jsdelta_db.compute.models.inference import predict
from jsdelta_db.compute.models.networks import Normalized, SmallCNN
from jsdelta_db.compute.models.zoo import build_model
from jsdelta_db.compute.training import Training, train
from jsdelta_db.config.recipes import get_recipe

CPU = torch.device("cpu")
CLASSES = tuple("abcdefghij")
EPS = {"linf": 8 / 255, "l2": 0.1}  # a size at which the small models here have something to lose


def generator(seed=0):
    """A torch generator of a fixed seed."""
    return torch.Generator().manual_seed(seed)


def make_images(n, shape=(1, 4, 4)):
    """Images with black, white and grey pixels."""
    return torch.rand(n, *shape, generator=generator()).mul_(1.4).sub_(0.2).clamp_(0, 1)


def make_split(n, shape=(1, 4, 4), classes=10):
    """Such images, with gaps between their stable indices."""
    return Split(make_images(n, shape), torch.arange(n) % classes, np.arange(n, dtype=np.int64) * 3 + 1)


def make_attempts(split, n, classes=CLASSES, rule="random", seed=0, clean_logits=None):
    """Aim the first images of a split."""
    return choose_attempts(rule, split.index[:n], split.labels.numpy()[:n], classes, seed, clean_logits)


class TwoSides(nn.Module):
    """Two classes by the side of a plane: logits w·x and −w·x."""

    def __init__(self, w):
        super().__init__()
        self.w = nn.Parameter(w)

    def forward(self, x):
        score = (x * self.w).flatten(1).sum(1)
        return torch.stack([score, -score], 1)


def make_plane():
    """A linear model with no weight near 0, so that every pixel has a way to go."""
    signs = torch.where(torch.rand(1, 4, 4, generator=generator(1)) < 0.5, -1.0, 1.0)
    return TwoSides(signs * (0.1 + torch.rand(1, 4, 4, generator=generator(2))) / 16)


def make_linear(shape, classes=3):
    """A linear layer on the image's pixels."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(int(np.prod(shape)), classes))


def make_cnn(seed=0):
    """A small CNN for 1×8×8 whose batch norms are not the identity, in train mode."""
    torch.manual_seed(seed)
    return stir_batch_norm(Normalized(SmallCNN(10, 1, 8, width=4), (0.5,), (0.3,))).train()


def stir_batch_norm(model):
    """Give batch norms statistics and weights that change what passes through."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(generator=generator(1))
            module.running_var.uniform_(0.5, 2.0, generator=generator(2))
            nn.init.normal_(module.weight, 1.0, 0.2, generator=generator(3))
    return model


def run(model, split, attempts, config, chunk_size=8, prepared=None, surrogates=(), dtype=torch.float32):
    """Attack one chunk the way the pipeline does."""
    images = probe_images(split, CPU)
    attacked = prepared or prepare(model, images, dtype)
    held = [prepare(each, images, dtype) for each in surrogates]
    attack = PreparedAttack(attacked, held, config, chunk_size)
    return attack_chunk(attack, split, attempts, predict(model, split, CPU))


def attack_chunk(attack, split, attempts, clean_logits):
    """Attack one chunk of a split, with the attacked model's logits on all of it."""
    rows = split.rows_of(attempts.sample_index)
    return perturb(attack, attempts, split.batch(rows), clean_logits[rows])


@functools.cache
def trained_digits():
    """The digits' attack split, and three small CNNs trained in a second to 97 %; tests only read them."""
    digits = data.load("digits", Path("unused"))
    config = replace(get_recipe("digits").train, epochs=8)
    models = [build_model("cnn-small", digits, seed=seed) for seed in range(3)]
    for seed, model in enumerate(models):
        train(model, Training(digits, config, seed, CPU, torch.float32))
    return digits.splits["attack"], [model.eval() for model in models]


def attack_digits(config, n=150, rule="random", dtype=torch.float32, chunk_size=None):
    """Attack the first model on the first ``n`` images it has right; the others are the surrogates."""
    split, (attacked, *others) = trained_digits()
    clean_logits = predict(attacked, split, CPU)
    rows = np.flatnonzero(clean_logits.argmax(1) == split.labels.numpy())[:n]
    attempts = choose_attempts(
        rule, split.index[rows], split.labels.numpy()[rows], tuple("0123456789"), 0, clean_logits[rows]
    )
    images = probe_images(split, CPU)
    prepared, *surrogates = (prepare(each, images, dtype) for each in (attacked, *others))
    size = chunk_size or len(attempts)
    attack = PreparedAttack(prepared, surrogates, config, size)
    return [
        attack_chunk(attack, split, attempts.chunk(i, size), clean_logits)
        for i in range(-(-len(attempts) // size))
    ]


@contextlib.contextmanager
def time_limit(seconds):
    """Turn a hang into a failure."""

    def stop(number, frame):
        raise AssertionError(f"not done after {seconds} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
