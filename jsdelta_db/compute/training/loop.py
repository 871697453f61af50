"""The training loop, from top to bottom."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import ConstantLR, LRScheduler, OneCycleLR

from jsdelta_db.compute.attacks.capture import Capture
from jsdelta_db.compute.attacks.robust import robust_accuracy
from jsdelta_db.compute.data import Dataset, Split
from jsdelta_db.compute.data.dataset import as_unit_range
from jsdelta_db.compute.models import predict
from jsdelta_db.compute.models.equivalence import probe_images
from jsdelta_db.compute.models.memory_order import arrange
from jsdelta_db.compute.training.augment import augment
from jsdelta_db.compute.training.captured import CapturedFunction
from jsdelta_db.compute.training.failures import explaining_failures
from jsdelta_db.compute.training.images import TrainImages, place_images
from jsdelta_db.compute.training.resume import EpochMetrics, TrainingState
from jsdelta_db.compute.training.steps import Forward, InnerAttack, Step, Trainee, find_method, forward_in
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
    tell: Callable[[str], None] = lambda line: None,
) -> list[EpochMetrics]:
    """Train a model in place on the train split, and return its epochs.

    The last epoch's weights are taken; of adversarial training those of the epoch that was most robust
    on the baseline split.

    Args:
        model: takes images in [0, 1]; left in eval mode on the training's device.
        on_epoch: called after each epoch.
        state: of a training that was stopped, to go on from; saved after each epoch.
        tell: gets a line where something is slower than it could be.

    Raises:
        UnknownNameError: no such method.
        TrainingError: the loss is not finite, or the network raised something; says at which step or epoch.
        OutOfMemoryError: the memory does not suffice.
    """
    with explaining_failures("before its first epoch"):
        loop = _Loop.start(model, training, tell)
    state = state or TrainingState()
    history = state.restore(model, loop.optimizer, loop.schedule)
    for epoch in range(len(history) + 1, training.config.epochs + 1):
        metrics = _run_epoch(loop, epoch)
        history.append(metrics)
        state.update(model, loop.optimizer, loop.schedule, history)
        on_epoch(metrics)
    state.load_best(model)
    return history


@dataclass(frozen=True, slots=True)
class _Loop:
    """Parts that the epochs of a training share; images are the train split's, with their labels."""

    training: Training
    model: nn.Module
    step: Step
    forward: Forward
    attack: CapturedFunction
    images: TrainImages
    n_images: int
    batches: int
    optimizer: Optimizer
    schedule: LRScheduler

    @classmethod
    def start(cls, model: nn.Module, training: Training, tell: Callable[[str], None]) -> "_Loop":
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
        images = place_images(split, device, tell)
        forward = partial(forward_in, model, dtype=training.dtype)
        attack = CapturedFunction(InnerAttack(model, forward, config), Capture(tell=tell))
        return cls(training, model, step, forward, attack, images, len(split), batches, optimizer, schedule)

    def batch_rows(self, epoch: int) -> Iterator[Tensor]:
        """Yield the rows of each batch, in the epoch's own order of the images."""
        n, size = self.n_images, self.training.config.batch_size
        order = seeding.generator("order", self.training.seed, epoch).permutation(n)
        rows = self.images.place(torch.from_numpy(order))
        for batch in range(self.batches):
            yield rows[batch * size : (batch + 1) * size if batch < self.batches - 1 else None]


def _run_epoch(loop: _Loop, epoch: int) -> EpochMetrics:
    """Train one epoch, and measure the model after it."""
    model, training = loop.model, loop.training
    with explaining_failures(f"in epoch {epoch}", training.config.batch_size):
        loss, train_accuracy = _train_epoch(loop, epoch)
    with explaining_failures(f"when it was measured after epoch {epoch}"):
        return EpochMetrics(
            epoch=epoch,
            loss=loss,
            train_accuracy=train_accuracy,
            baseline_accuracy=accuracy(model, training.dataset.splits["baseline"], training.device),
            learning_rate=float(loop.schedule.get_last_lr()[0]),
            pgd_accuracy=_measure_robustness(model, training),
        )


def _train_epoch(loop: _Loop, epoch: int) -> tuple[float, float]:
    """Train one epoch, and return the mean loss and the accuracy on its batches.

    Raises:
        TrainingError: the loss is not finite.
    """
    training, config, device = loop.training, loop.training.config, loop.training.device
    draws = torch.Generator().manual_seed(training.draw_seed("augment", epoch))
    noise = noise_generator(training, epoch, draws)
    trainee = Trainee(loop.model, loop.forward, loop.optimizer, config, noise, loop.attack)
    loop.model.train()
    total_loss = correct = torch.zeros((), device=device)
    first_bad = torch.full((), loop.batches, device=device)
    with _global_generator(device, training.draw_seed("dropout", epoch)):
        for batch, rows in enumerate(loop.batch_rows(epoch)):
            images, y = loop.images.take(rows)
            x = as_unit_range(augment(images, config.crop_padding, config.flip, draws))
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
    return float(total_loss) / loop.n_images, float(correct) / loop.n_images


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
