"""Training on the device: as good as on the CPU, resumed to the bit, and constructions in their balls."""

import copy
from contextlib import suppress
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from torch import nn

from gpu_checks.findings import Case, Finding, skipped
from gpu_checks.subjects import digits_recipe, first_images, small_digits, trained
from jsdelta_db.compute.attacks import prepare
from jsdelta_db.compute.constructions import configure, construct
from jsdelta_db.compute.models import build_model
from jsdelta_db.compute.models.equivalence import probe_images
from jsdelta_db.compute.training import EpochMetrics, Training, TrainingState, accuracy, train
from jsdelta_db.config.construction import BALL_KINDS, CONSTRUCTION_KINDS, ConstructionRequest

METHODS = ("standard", "sam", "adversarial")
TWO_POINTS = 0.02
EPOCHS, EPOCHS_ON_A_CPU = 4, 2  # of a training that is stopped half-way
TRAINED_ON_A_CPU = 2  # epochs of the network that constructions are made with; digits_recipe's own on a card
IMAGES_ON_A_CPU = 96  # of such a training
IMAGES = 64  # of a construction


def cases(device: torch.device) -> list[Case]:
    """Return the cases."""
    cpu = device.type == "cpu"
    accuracies = (
        [skipped("accuracy beside the CPU's", "this is the CPU")] if cpu
        else [Case(f"accuracy, {method}", partial(_accuracy, method, device)) for method in METHODS]
    )  # fmt: skip
    resumed = [Case(f"resume, {method}", partial(_resume, method, device)) for method in METHODS]
    made = [
        Case(f"construction, {kind}", partial(_construction, kind, device)) for kind in CONSTRUCTION_KINDS
    ]
    return [*accuracies, *resumed, *made]


def _accuracy(method: str, device: torch.device) -> list[Finding]:
    """Train the same on both devices, and compare on the images that nobody has seen."""
    split = small_digits().splits["attack"]
    rates = {
        each.type: accuracy(copy.deepcopy(trained(each, method)).to(each), split, each)
        for each in (torch.device("cpu"), device)
    }
    close = abs(rates["cpu"] - rates[device.type]) <= TWO_POINTS
    return [Finding(f"accuracy, {method}", rates, close, f"within {TWO_POINTS:g}")]


class _StoppedError(Exception):
    """A training stopped from outside."""


def _resume(method: str, device: torch.device) -> list[Finding]:
    """Train with and without an interruption."""
    dataset, epochs = small_digits(), EPOCHS
    if device.type == "cpu":
        dataset, epochs = first_images(dataset, IMAGES_ON_A_CPU), EPOCHS_ON_A_CPU
    config = replace(digits_recipe(method, epochs), crop_padding=1, flip=True)
    training = Training(dataset, config, 0, device, torch.float32)
    straight = _fresh()
    train(straight, training)
    kept: list[bytes] = []

    def stop(metrics: EpochMetrics) -> None:
        if metrics.epoch == epochs // 2:
            raise _StoppedError

    with suppress(_StoppedError):
        train(_fresh(), training, on_epoch=stop, state=TrainingState(save=kept.append))
    resumed = _fresh()
    train(resumed, training, state=TrainingState(kept[-1]))
    pairs = zip(straight.state_dict().values(), resumed.state_dict().values(), strict=True)
    equal = len(kept) == epochs // 2 and all(torch.equal(one, other) for one, other in pairs)
    return [Finding(f"resumed {method} training", equal, equal, "equal weights")]


def _fresh() -> nn.Module:
    return build_model("cnn-small", small_digits())


def _construction(kind: str, device: torch.device) -> list[Finding]:
    """Make some images of a data set: in [0, 1], in the ball where there is one, and moved."""
    split = small_digits().splits["train"]
    rows = np.arange(IMAGES)
    config = configure(ConstructionRequest(kind, steps=40), "digits")
    model = trained(device) if device.type == "cuda" else trained(device, epochs=TRAINED_ON_A_CPU)
    prepared = prepare(model, probe_images(small_digits().splits["baseline"], device))
    made, _ = construct(prepared, split, rows, len(small_digits().classes), config)
    change = made.astype(np.float64) - split.batch(rows).numpy()
    length = float(np.sqrt((change**2).reshape(IMAGES, -1).sum(1)).max())
    inside = bool(np.isfinite(made).all() and made.min() >= 0 and made.max() <= 1)
    if kind in BALL_KINDS:
        assert config.eps is not None
        return [
            Finding(
                f"largest change, {kind}", length, inside and 0 < length <= config.eps, f"<= {config.eps:g}"
            )
        ]
    return [Finding(f"largest change, {kind}", length, inside and length > 0, "> 0, in [0, 1]")]
