"""Preflight of a training: one step of a fresh network, and an attack's checks, before anything is begun."""

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

from jsdelta_db.compute.attacks.preflight import check_model
from jsdelta_db.compute.data import Dataset
from jsdelta_db.compute.models import build_model
from jsdelta_db.compute.models.equivalence import probe_images
from jsdelta_db.compute.models.memory_order import arrange
from jsdelta_db.compute.models.named_code import users_code
from jsdelta_db.compute.training.steps import forward_in
from jsdelta_db.config.training import TrainConfig
from jsdelta_db.errors import ModelError, UsageError
from jsdelta_db.runtime.devices import dtype_name, resolve_dtype
from jsdelta_db.runtime.memory import explaining_memory

IMAGES = 8  # enough to see a fault
LEARNING_RATE = 0.01  # of the one step: before it, a last layer that starts at zero passes no gradient on


@dataclass(frozen=True, slots=True)
class FreshNetwork:
    """A network that took a step, to be thrown away.

    Attributes:
        dtype: that the training is to have inside.
    """

    network: nn.Module
    dtype: torch.dtype


def check_fresh(config: TrainConfig, dataset: Dataset, seed: int, device: torch.device) -> FreshNetwork:
    """Find out on a fresh network whether it can be trained, and attacked later, and in which dtype.

    Raises:
        UsageError: bfloat16 was asked for, and the machine lacks it or the network does not work in it.
        ModelError: the network cannot be built or takes no step, or an attack could not use it.
        OutOfMemoryError: there is no memory even for that.
    """
    with (
        users_code(
            lambda reason: ModelError(f"architecture {config.arch!r} failed on a few images ({reason})")
        ),
        explaining_memory(f"on a few images of {dataset.name!r}"),
    ):
        return _look_at_fresh(config, dataset, seed, device)


def _look_at_fresh(config: TrainConfig, dataset: Dataset, seed: int, device: torch.device) -> FreshNetwork:
    dtype = resolve_dtype(config.dtype, device, config.arch)
    network = build_model(config.arch, dataset, width=config.width, seed=seed).to(device)
    arrange(network, probe_images(dataset.splits["baseline"], device))
    _take_step(network, config.arch, dataset, device, torch.float32)
    split = dataset.splits["baseline"]
    few = slice(0, min(IMAGES, len(split)))
    x, labels = split.batch(few).to(device), split.labels[few].to(device)
    check_model(network, x, labels, config.arch, is_fresh=True)
    if dtype is torch.bfloat16:
        try:
            _take_step(network, config.arch, dataset, device, dtype)
        except ModelError as error:
            if config.dtype == dtype_name(dtype):
                raise UsageError(f"--dtype {config.dtype!r}: {error}; must be float32 or auto") from error
            dtype = torch.float32
    return FreshNetwork(network, dtype)


def _take_step(
    network: nn.Module, arch: str, dataset: Dataset, device: torch.device, dtype: torch.dtype
) -> None:
    """Train on a few images.

    Raises:
        ModelError: forward() or its gradient failed in train mode.
    """
    split = dataset.splits["train"]
    few = slice(0, min(IMAGES, len(split)))
    x, labels = split.batch(few).to(device), split.labels[few].to(device)
    optimizer = torch.optim.SGD(network.parameters(), lr=LEARNING_RATE)
    network.train()
    refuse = f"architecture {arch!r} cannot be trained in {dtype_name(dtype)} "
    advice = "its forward() must take a batch in train mode and return logits"
    with (
        users_code(lambda reason: ModelError(f"{refuse}({reason}); {advice}")),
        explaining_memory(f"on a few images of {dataset.name!r}"),
        torch.random.fork_rng(devices=[device] if device.type == "cuda" else []),
    ):
        logits = forward_in(network, x.contiguous(memory_format=torch.channels_last), dtype)
        F.cross_entropy(logits, labels).backward()  # type: ignore[no-untyped-call]
    optimizer.step()
