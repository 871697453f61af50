"""Networks, digits and chunks that the checks work on: small ones on a CPU, CIFAR's shape on a card."""

from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from jsdelta_db.compute.attacks import PreparedAttack, PreparedModel, prepare
from jsdelta_db.compute.data.dataset import Dataset, Split
from jsdelta_db.compute.data.digits import load_digits
from jsdelta_db.compute.models import build_model
from jsdelta_db.compute.models.equivalence import probe_images
from jsdelta_db.compute.models.inference import forward
from jsdelta_db.compute.models.memory_order import arrange
from jsdelta_db.compute.training import Training, train
from jsdelta_db.config.attack import AttackConfig
from jsdelta_db.config.training import TrainConfig
from jsdelta_db.errors import UsageError
from jsdelta_db.records import FOLDED, Attempts
from jsdelta_db.runtime.devices import resolve_dtype

SIDE = 32  # of the enlarged digits
CALIBRATION = 64  # images
EPS = 8 / 255
# name -> width; None for the architecture's own
ON_A_CARD = dict.fromkeys(("resnet8", "resnet18", "resnet50", "vit-small"))
ON_A_CPU = {"resnet8": 8, "vit-small": 32}


@lru_cache
def small_digits() -> Dataset:
    """Return the digits as they are, 1×8×8."""
    return load_digits(Path())


@lru_cache
def digits(device_type: str) -> Dataset:
    """Return the digits as 3×32×32 bytes, CIFAR's shape; on a CPU as they are."""
    small = small_digits()
    if device_type == "cpu":
        return small
    splits = {name: Split(_enlarge(s.images), s.labels, s.index) for name, s in small.splits.items()}
    return Dataset("digits-enlarged", small.classes, small.mean * 3, small.std * 3, splits)


def _enlarge(images: Tensor) -> Tensor:
    larger = F.interpolate(images, size=(SIDE, SIDE), mode="bilinear").expand(-1, 3, -1, -1)
    return larger.mul(255.0).round().to(torch.uint8).contiguous()


def networks(device: torch.device) -> tuple[str, ...]:
    """Return the architectures that the checks run on."""
    return tuple(ON_A_CPU if device.type == "cpu" else ON_A_CARD)


@lru_cache(maxsize=4)
def network(arch: str, device: torch.device, seed: int = 0) -> nn.Module:
    """Return a network as an attack meets it, in eval mode: random weights, running statistics of its images.

    With the statistics that batch norm starts with, a deep network of random weights would overflow bfloat16.
    """
    dataset = digits(device.type)
    width = ON_A_CPU[arch] if device.type == "cpu" else None
    model = build_model(arch, dataset, width=width, seed=seed).to(device)
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 1.0
    with torch.no_grad():
        model.train()(dataset.splits["train"].batch(slice(0, CALIBRATION)).to(device))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    return arrange(model.eval(), probe_images(dataset.splits["baseline"], device))


@lru_cache(maxsize=4)
def prepared(arch: str, device: torch.device, dtype: torch.dtype, seed: int = 0) -> PreparedModel:
    """Return a network with the folded copy that gradient steps run on.

    It is not compared with the network: of random weights a copy in bfloat16 may have too different gradients
    to be taken for an attack, and costs the same.
    """
    images = probe_images(digits(device.type).splits["baseline"], device)
    return prepare(network(arch, device, seed), images, dtype, FOLDED)


def dtypes(device: torch.device) -> tuple[torch.dtype, ...]:
    """Return the dtypes that the device computes in."""
    try:
        return torch.float32, resolve_dtype("bfloat16", device)
    except UsageError:
        return (torch.float32,)


@dataclass(frozen=True, slots=True)
class Chunk:
    """Attempts with their images, as ``perturb`` takes them."""

    attempts: Attempts
    x: Tensor
    clean_logits: NDArray[np.float32]


def chunk_of(model: nn.Module, dataset: Dataset, n: int, device: torch.device, first: int = 0) -> Chunk:
    """Return ``n`` attempts on what the model says, each towards the label after it.

    Args:
        first: key of the first attempt, so that chunks differ in their starts.
    """
    split = dataset.splits["attack"]
    keys = np.arange(first, first + n, dtype=np.int64)
    x = split.batch(keys % len(split))
    logits = forward(model, x.to(device).contiguous(memory_format=torch.channels_last))
    label = logits.argmax(1)
    return Chunk(Attempts(keys, label, (label + 1) % logits.shape[1]), x, logits)


def attack_on(model: PreparedModel, n: int, *, steps: int, dtype: torch.dtype) -> PreparedAttack:
    """Return the plain attack in chunks of ``n``."""
    config = AttackConfig(eps=EPS, steps=steps, dtype=str(dtype).removeprefix("torch."))
    return PreparedAttack(model, (), config, n)


def first_images(dataset: Dataset, n: int) -> Dataset:
    """Return a data set with the first images of its train split alone."""
    part = dataset.splits["train"]
    few = Split(part.images[:n], part.labels[:n], part.index[:n])
    return replace(dataset, splits={**dataset.splits, "train": few})


def digits_recipe(method: str = "standard", epochs: int = 6) -> TrainConfig:
    """Return the configuration of the digits recipes, with fewer epochs."""
    more = {
        "standard": {},
        "sam": {"sam_rho": 0.1, "sam_adaptive": False},
        "adversarial": {
            "train_norm": "linf", "train_eps": 4 / 255, "train_steps": 5, "train_step_size": 1 / 255,
        },
    }[method]  # fmt: skip
    return TrainConfig(
        "digits", "cnn-small", epochs, method=method, batch_size=32, learning_rate=0.05, weight_decay=1e-3,
        dtype="float32", **more,
    )  # fmt: skip


@lru_cache
def trained(device: torch.device, method: str = "standard", epochs: int = 6) -> nn.Module:
    """Return a small network trained on the digits, on the device."""
    dataset = small_digits()
    model = build_model("cnn-small", dataset)
    train(model, Training(dataset, digits_recipe(method, epochs), 0, device, torch.float32))
    return model


def name_of(dtype: torch.dtype) -> str:
    """Return a dtype without torch's prefix."""
    return str(dtype).removeprefix("torch.")
