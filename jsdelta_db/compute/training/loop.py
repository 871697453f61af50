"""The training loop, from top to bottom."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import ConstantLR, LRScheduler, OneCycleLR

from jsdelta_db.compute.attacks.robust import robust_accuracy
from jsdelta_db.compute.data import Dataset, Split
from jsdelta_db.compute.data.dataset import as_unit_range
from jsdelta_db.compute.models import predict
from jsdelta_db.compute.models.equivalence import probe_images
from jsdelta_db.compute.models.memory_order import arrange
from jsdelta_db.compute.training.augment import augment
from jsdelta_db.compute.training.resume import EpochMetrics, TrainingState
from jsdelta_db.compute.training.steps import Step, Trainee, find_method, forward_in
from jsdelta_db.config.attack import AttackConfig
from jsdelta_db.config.training import TrainConfig
from jsdelta_db.errors import TrainingError
from jsdelta_db.runtime import seeding

CHECK_IMAGES, CHECK_STEPS = 500, 10  # of the robustness check after each epoch of adversarial training


@dataclass(frozen=True, slots=True)
class Training:
    """Everything that decides a member's weights: data, configuration, seed, device and dtype.

    Attributes:
        seed: decides the order of the images and their augmentation.
        dtype: of the network's inner arithmetic; weights, loss and logits stay float32.
    """

    dataset: Dataset
    config: TrainConfig
    seed: int
    device: torch.device
    dtype: torch.dtype

    def draw_seed(self, purpose: str, epoch: int) -> int:
        """Draw a seed for torch, keyed by epoch: it does not depend on which epochs ran before."""
        return int(seeding.generator(purpose, self.seed, epoch).integers(2**62))


def train(
    model: nn.Module,
    training: Training,
    *,
    on_epoch: Callable[[EpochMetrics], None] = lambda metrics: None,
    state: TrainingState | None = None,
) -> list[EpochMetrics]:
    """Train a model in place on the train split, and return its epochs.

    The last epoch's weights are taken; of adversarial training those of the epoch that was most robust
    on the baseline split.

    Args:
        model: takes images in [0, 1]; left in eval mode on the training's device.
        on_epoch: called after each epoch.
        state: of a training that was stopped, to go on from; saved after each epoch.

    Raises:
        UnknownNameError: no such method.
        TrainingError: the loss is not finite, or the memory does not suffice; says at which step.
    """
    loop = _Loop.start(model, training)
    state = state or TrainingState()
    history = state.restore(model, loop.optimizer, loop.schedule)
    baseline = training.dataset.splits["baseline"]
    for epoch in range(len(history) + 1, training.config.epochs + 1):
        loss, train_accuracy = _train_epoch(loop, epoch)
        metrics = EpochMetrics(
            epoch=epoch,
            loss=loss,
            train_accuracy=train_accuracy,
            baseline_accuracy=accuracy(model, baseline, training.device),
            learning_rate=float(loop.schedule.get_last_lr()[0]),
            pgd_accuracy=_measure_robustness(model, training),
        )
        history.append(metrics)
        state.update(model, loop.optimizer, loop.schedule, history)
        on_epoch(metrics)
    state.load_best(model)
    return history


@dataclass(frozen=True, slots=True)
class _Loop:
    """Parts that the epochs of a training share; images and labels are the train split's, on the device."""

    training: Training
    model: nn.Module
    step: Step
    images: Tensor
    labels: Tensor
    batches: int
    optimizer: Optimizer
    schedule: LRScheduler

    @classmethod
    def start(cls, model: nn.Module, training: Training) -> "_Loop":
        config, split, device = training.config, training.dataset.splits["train"], training.device
        step = find_method(config.method)
        arrange(model.to(device), probe_images(training.dataset.splits["baseline"], device))
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
        images, labels = split.images.to(device), split.labels.to(device)
        return cls(training, model, step, images, labels, batches, optimizer, schedule)

    def forward(self, x: Tensor) -> Tensor:
        """Return float32 logits, computed in the training's dtype."""
        return forward_in(self.model, x, self.training.dtype)

    def batch_rows(self, epoch: int) -> Iterator[Tensor]:
        """Yield the rows of each batch, in the epoch's own order of the images."""
        n, size = len(self.labels), self.training.config.batch_size
        order = seeding.generator("order", self.training.seed, epoch).permutation(n)
        rows = torch.from_numpy(order).to(self.training.device)
        for batch in range(self.batches):
            yield rows[batch * size : (batch + 1) * size if batch < self.batches - 1 else None]


def _train_epoch(loop: _Loop, epoch: int) -> tuple[float, float]:
    """Train one epoch, and return the mean loss and the accuracy on its batches.

    Raises:
        TrainingError: the loss is not finite, or the memory does not suffice.
    """
    training, config, device = loop.training, loop.training.config, loop.training.device
    draws = torch.Generator().manual_seed(training.draw_seed("augment", epoch))
    trainee = Trainee(
        loop.model, loop.forward, loop.optimizer, config, noise_generator(training, epoch, draws)
    )
    loop.model.train()
    total_loss = correct = torch.zeros((), device=device)
    first_bad = torch.full((), loop.batches, device=device)
    with _global_generator(device, training.draw_seed("dropout", epoch)):
        for batch, rows in enumerate(loop.batch_rows(epoch)):
            x = as_unit_range(augment(loop.images[rows], config.crop_padding, config.flip, draws))
            y = loop.labels[rows]
            with _explaining_memory(config):
                loss, logits = loop.step(trainee, x.contiguous(memory_format=torch.channels_last), y)
            loop.schedule.step()
            total_loss = total_loss + loss * len(rows)
            correct = correct + (logits.argmax(1) == y).sum()
            # Read once an epoch: reading it at each batch would make the device wait.
            first_bad = torch.where(torch.isfinite(loss), first_bad, first_bad.clamp(max=batch))
    loop.model.eval()
    if int(first_bad) < loop.batches:
        raise TrainingError(
            f"the loss is not finite at step {(epoch - 1) * loop.batches + int(first_bad) + 1} "
            f"(epoch {epoch}); try a smaller learning_rate than {config.learning_rate:g}"
        )
    return float(total_loss) / len(loop.labels), float(correct) / len(loop.labels)


def noise_generator(training: Training, epoch: int, draws: torch.Generator) -> torch.Generator:
    """Return what draws an epoch's adversarial starts: a card's own, so that no noise goes over the bus.

    Args:
        draws: what draws the epoch's shifts; on a CPU the starts come from it, too.
    """
    if training.device.type == "cpu":
        return draws
    return torch.Generator(training.device).manual_seed(training.draw_seed("start", epoch))


def _measure_robustness(model: nn.Module, training: Training) -> float | None:
    """Attack held-out images as the training does, but in more and smaller steps."""
    config = training.config
    if config.train_eps is None or config.train_norm is None:
        return None
    attack = AttackConfig(
        eps=config.train_eps,
        norm=config.train_norm,
        steps=CHECK_STEPS,
        targets="untargeted",
        images=CHECK_IMAGES,
    )
    split = training.dataset.splits["baseline"]
    return robust_accuracy(model, split, attack, training.device, training.dtype)[0]


@contextmanager
def _explaining_memory(config: TrainConfig) -> Iterator[None]:
    """Turn out of memory into an error that names a batch size to try."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        # On a CPU torch raises a plain RuntimeError; only its text tells it from others.
        is_memory = isinstance(error, torch.OutOfMemoryError | MemoryError)
        if not is_memory and "allocate memory" not in str(error):
            raise
        raise TrainingError(
            f"out of memory at batch_size {config.batch_size}; "
            f"try batch_size {max(1, config.batch_size // 2)}"
        ) from error


@contextmanager
def _global_generator(device: torch.device, seed: int) -> Iterator[None]:
    """Seed the generator that layers such as dropout draw from; restore its state afterwards."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


def make_schedule(optimizer: Optimizer, config: TrainConfig, steps: int) -> LRScheduler:
    """Return the learning-rate schedule: one cycle up to the recipe's rate and down, or constant."""
    if config.schedule == "constant" or steps < 4:
        return ConstantLR(optimizer, factor=1.0, total_iters=1)
    return OneCycleLR(
        optimizer, max_lr=config.learning_rate, total_steps=steps + 1, pct_start=0.25, cycle_momentum=False
    )


def accuracy(model: nn.Module, split: Split, device: torch.device) -> float:
    """Return the share of a split's images that the model classifies correctly."""
    return float((predict(model, split, device).argmax(1) == split.labels.numpy()).mean())
