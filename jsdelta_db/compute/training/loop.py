"""The training loop, from top to bottom."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from jsdelta_db.compute.attacks.robust import robust_accuracy
from jsdelta_db.compute.data import Dataset, Split
from jsdelta_db.compute.data.dataset import as_unit_range
from jsdelta_db.compute.models import predict
from jsdelta_db.compute.training.augment import augment
from jsdelta_db.compute.training.resume import EpochMetrics, Progress
from jsdelta_db.compute.training.steps import Trainee, find_method
from jsdelta_db.config.attack import AttackConfig
from jsdelta_db.config.training import TrainConfig
from jsdelta_db.errors import TrainingError
from jsdelta_db.runtime import seeding

CHECK_IMAGES, CHECK_STEPS = 500, 10  # of the robustness check after each epoch of adversarial training


def train(
    model: nn.Module,
    dataset: Dataset,
    config: TrainConfig,
    *,
    seed: int,
    device: torch.device,
    dtype: torch.dtype,
    on_epoch: Callable[[EpochMetrics], None] = lambda metrics: None,
    progress: Progress | None = None,
) -> list[EpochMetrics]:
    """Train a model in place on the train split.

    The last epoch's weights are kept; of adversarial training those of the epoch that was most robust on
    the baseline split.

    Args:
        model: takes images in [0, 1]; left in eval mode on ``device``.
        seed: decides the order of the images and their augmentation.
        dtype: of the network's inner arithmetic; weights, loss and logits stay float32.
        on_epoch: called after each epoch.
        progress: of a training that was stopped, to go on from; kept up to date after each epoch.

    Raises:
        UnknownNameError: no such method.
        TrainingError: the loss is not finite, or the memory does not suffice; says at which step.
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
    progress = progress or Progress()
    history = progress.restore(model, optimizer, schedule)
    for epoch in range(len(history) + 1, config.epochs + 1):
        # Keyed by epoch, so that an epoch's draws do not depend on how the run came to it.
        order = torch.from_numpy(seeding.generator("order", seed, epoch).permutation(len(split))).to(device)
        draws = torch.Generator().manual_seed(int(seeding.generator("augment", seed, epoch).integers(2**62)))
        trainee = Trainee(model, forward, optimizer, config, draws)
        model.train()
        total_loss = correct = torch.zeros((), device=device)
        first_bad = torch.full((), batches, device=device)
        with _global_generator(device, int(seeding.generator("dropout", seed, epoch).integers(2**62))):
            for batch in range(batches):
                end = (batch + 1) * config.batch_size if batch < batches - 1 else None
                rows = order[batch * config.batch_size : end]
                x = as_unit_range(augment(images[rows], config.crop_padding, config.flip, draws))
                y = labels[rows]
                with _explaining_memory(config):
                    loss, logits = step(trainee, x.contiguous(memory_format=torch.channels_last), y)
                schedule.step()
                total_loss = total_loss + loss * len(rows)
                correct = correct + (logits.argmax(1) == y).sum()
                # Looked at once an epoch: asking each time would make the device wait.
                first_bad = torch.where(torch.isfinite(loss), first_bad, first_bad.clamp(max=batch))
        model.eval()
        if int(first_bad) < batches:
            raise TrainingError(
                f"the loss is not finite at step {(epoch - 1) * batches + int(first_bad) + 1} "
                f"(epoch {epoch}); try a smaller learning_rate than {config.learning_rate:g}"
            )
        metrics = EpochMetrics(
            epoch=epoch,
            loss=float(total_loss) / len(split),
            train_accuracy=float(correct) / len(split),
            baseline_accuracy=accuracy(model, dataset.splits["baseline"], device),
            learning_rate=float(schedule.get_last_lr()[0]),
            pgd_accuracy=_check_robustness(model, dataset.splits["baseline"], config, device, dtype),
        )
        history.append(metrics)
        progress.keep(model, optimizer, schedule, history)
        on_epoch(metrics)
    progress.take_best(model)
    return history


def _check_robustness(
    model: nn.Module, split: Split, config: TrainConfig, device: torch.device, dtype: torch.dtype
) -> float | None:
    """Attack held-out images as the training does, but in more and smaller steps."""
    if config.train_eps is None or config.train_norm is None:
        return None
    attack = AttackConfig(
        eps=config.train_eps,
        norm=config.train_norm,
        steps=CHECK_STEPS,
        targets="untargeted",
        images=CHECK_IMAGES,
    )
    return robust_accuracy(model, split, attack, device, dtype)[0]


@contextmanager
def _explaining_memory(config: TrainConfig) -> Iterator[None]:
    """Say which batch size to try where the memory does not suffice."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        if not isinstance(error, torch.OutOfMemoryError | MemoryError) and "allocate memory" not in str(
            error
        ):
            raise
        raise TrainingError(
            f"out of memory at batch_size {config.batch_size}; "
            f"try batch_size {max(1, config.batch_size // 2)}"
        ) from error


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
