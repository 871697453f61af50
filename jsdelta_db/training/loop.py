"""The training loop, from top to bottom."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from jsdelta_db import keyed
from jsdelta_db.config import TrainConfig
from jsdelta_db.data import Dataset, Split
from jsdelta_db.data.dataset import as_unit_range
from jsdelta_db.errors import TrainingError
from jsdelta_db.models import predict
from jsdelta_db.training.augment import augment
from jsdelta_db.training.steps import find_method


@dataclass(frozen=True, slots=True)
class EpochMetrics:
    """One epoch: means over the train split, and the accuracy on the baseline split after it."""

    epoch: int
    loss: float
    train_accuracy: float
    baseline_accuracy: float
    learning_rate: float


def train(
    model: nn.Module,
    dataset: Dataset,
    config: TrainConfig,
    *,
    seed: int,
    device: torch.device,
    dtype: torch.dtype,
    on_epoch: Callable[[EpochMetrics], None] = lambda metrics: None,
) -> list[EpochMetrics]:
    """Train a model in place on the train split; the last epoch's weights are kept.

    Args:
        model: takes images in [0, 1]; left in eval mode on ``device``.
        seed: decides the order of the images and their augmentation.
        dtype: of the network's inner arithmetic; weights, loss and logits stay float32.
        on_epoch: called after each epoch.

    Raises:
        UnknownNameError: no such method.
        TrainingError: the loss is not finite; says at which step.
    """
    step = find_method(config.method)
    split = dataset.splits["train"]
    images, labels = split.images.to(device), split.labels.to(device)
    model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(x: Tensor) -> Tensor:
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
            logits: Tensor = model(x)
            return logits.float()

    optimizer = torch.optim.SGD(
        model.parameters(),
        lr=config.learning_rate,
        momentum=config.momentum,
        weight_decay=config.weight_decay,
        nesterov=config.momentum > 0,
    )
    # A last batch of one image, which batch norm refuses, joins the batch before it.
    batches = max(1, -(-(len(split) - 1) // config.batch_size))
    schedule = make_schedule(optimizer, config, config.epochs * batches)
    history = []
    for epoch in range(1, config.epochs + 1):
        # Keyed by epoch, so that an epoch's draws do not depend on how the run came to it.
        order = torch.from_numpy(keyed.generator("order", seed, epoch).permutation(len(split))).to(device)
        draws = torch.Generator().manual_seed(int(keyed.generator("augment", seed, epoch).integers(2**62)))
        model.train()
        total_loss = correct = torch.zeros((), device=device)
        with _global_generator(device, int(keyed.generator("dropout", seed, epoch).integers(2**62))):
            for batch in range(batches):
                end = (batch + 1) * config.batch_size if batch < batches - 1 else None
                rows = order[batch * config.batch_size : end]
                x = as_unit_range(augment(images[rows], config.crop_padding, config.flip, draws))
                y = labels[rows]
                loss, logits = step(
                    model, forward, optimizer, x.contiguous(memory_format=torch.channels_last), y
                )
                schedule.step()
                total_loss = total_loss + loss * len(rows)
                correct = correct + (logits.argmax(1) == y).sum()
        model.eval()
        mean_loss = float(total_loss) / len(split)
        if not np.isfinite(mean_loss):
            raise TrainingError(
                f"the loss is not finite in epoch {epoch} (steps {(epoch - 1) * batches + 1} to "
                f"{epoch * batches}); try a smaller learning_rate than {config.learning_rate:g}"
            )
        metrics = EpochMetrics(
            epoch=epoch,
            loss=mean_loss,
            train_accuracy=float(correct) / len(split),
            baseline_accuracy=accuracy(model, dataset.splits["baseline"], device),
            learning_rate=float(schedule.get_last_lr()[0]),
        )
        history.append(metrics)
        on_epoch(metrics)
    return history


@contextmanager
def _global_generator(device: torch.device, seed: int) -> Iterator[None]:
    """Seed the generator that layers such as dropout draw from; leave it as it was."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


def make_schedule(
    optimizer: torch.optim.Optimizer, config: TrainConfig, steps: int
) -> torch.optim.lr_scheduler.LRScheduler:
    """Return the learning-rate schedule: one cycle up to the recipe's rate and down, or constant."""
    if config.schedule == "constant" or steps < 4:
        return torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1.0, total_iters=1)
    return torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=config.learning_rate, total_steps=steps + 1, pct_start=0.25, cycle_momentum=False
    )


def accuracy(model: nn.Module, split: Split, device: torch.device) -> float:
    """Return the share of a split's images that the model calls by their label."""
    return float((predict(model, split, device).argmax(1) == split.labels.numpy()).mean())
