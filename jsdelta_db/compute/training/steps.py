"""One optimizer update, by training method: the methods differ here and nowhere else."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer

from jsdelta_db.compute.attacks import BALLS, Steps, pgd
from jsdelta_db.compute.models.inference import evaluating
from jsdelta_db.config.training import TrainConfig, check_method

Forward = Callable[[Tensor], Tensor]


@dataclass(frozen=True, slots=True)
class Trainee:
    """A model in training, with all that a step needs.

    Attributes:
        forward: the model under the run's autocast, returning float32 logits.
        draws: random numbers of the epoch, drawn where the model is.
        attack: that adversarial training meets: images, labels and starts → images.
    """

    model: nn.Module
    forward: Forward
    optimizer: Optimizer
    config: TrainConfig
    draws: torch.Generator
    attack: Callable[[Tensor, Tensor, Tensor], Tensor]


# (trainee, images in [0, 1], labels) -> loss and logits before the update
Step = Callable[[Trainee, Tensor, Tensor], tuple[Tensor, Tensor]]


def forward_in(model: nn.Module, x: Tensor, dtype: torch.dtype) -> Tensor:
    """Return float32 logits, computed with float32 or bfloat16 inside the model."""
    with torch.autocast(x.device.type, dtype=torch.bfloat16, enabled=dtype is torch.bfloat16):
        logits: Tensor = model(x)
        return logits.float()


def standard_step(trainee: Trainee, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Descend the cross-entropy on clean images; no label smoothing, which would shrink ρ."""
    loss, logits = _differentiate(trainee, x, y)
    trainee.optimizer.step()
    return loss, logits


def adversarial_step(trainee: Trainee, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Descend the cross-entropy on adversarial images: untargeted PGD from a random start.

    One step of 1.25 ε is FGSM with a random start.

    Source: Madry et al. 2018, "Towards Deep Learning Models Resistant to Adversarial Attacks"; Wong et
    al. 2020, "Fast is better than free".
    """
    return standard_step(trainee, perturb_batch(trainee, x, y), y)


def perturb_batch(trainee: Trainee, x: Tensor, y: Tensor) -> Tensor:
    """Return a batch moved away from its labels, by the current model in eval mode.

    Args:
        x: images ``(n, c, h, w)`` in [0, 1].
        y: their labels ``(n,)``.
    """
    assert trainee.config.train_norm is not None
    start = BALLS[trainee.config.train_norm].draw_batch(trainee.draws, tuple(x.shape))
    return trainee.attack(x, y, start.contiguous(memory_format=torch.channels_last))


@dataclass(frozen=True, slots=True)
class InnerAttack:
    """Untargeted PGD on a model in training: a function of images, labels and starts.

    Batch norm in eval mode: the attack meets the network that will be used later, and leaves its
    running statistics alone (Pang et al. 2021, "Bag of Tricks for Adversarial Training").
    """

    model: nn.Module
    forward: Forward
    config: TrainConfig

    def __call__(self, x: Tensor, y: Tensor, start: Tensor) -> Tensor:
        """Return the images moved.

        Args:
            start: the first change as a share of ε, shaped like the images.
        """
        config = self.config
        assert config.train_norm is not None
        assert config.train_eps is not None
        assert config.train_steps is not None
        assert config.train_step_size is not None

        def objective(x_adv: Tensor) -> tuple[Tensor, Tensor]:
            logits = self.forward(x_adv)
            return -F.cross_entropy(logits, y, reduction="none"), logits

        # Of a frozen weight autocast keeps no bfloat16 copy: a capture records its conversion, too.
        with evaluating(self.model), _frozen(self.model):
            return pgd(
                objective, BALLS[config.train_norm](x, config.train_eps), start,
                Steps(config.train_steps, config.train_step_size),
            )  # fmt: skip


def sam_step(trainee: Trainee, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Descend the loss at the worst nearby weights.

    The weights go up by e = ρ·g/‖g‖, the gradient is taken there, and the update starts from where they were.
    Batch norm's running statistics come from the first pass alone.

    Source: Foret et al. 2021, "Sharpness-Aware Minimization", algorithm 1; adaptive: Kwon et al. 2021.
    """
    loss, logits = _differentiate(trainee, x, y)
    weights: list[Tensor] = [weight for weight in trainee.model.parameters() if weight.grad is not None]
    starts = [torch.empty_like(weight) for weight in weights]
    with torch.no_grad():
        torch._foreach_copy_(starts, weights)  # subtracting e again would not give them exactly
        _ascend(weights, trainee.config)
    with _still_statistics(trainee.model):
        _differentiate(trainee, x, y)
    with torch.no_grad():
        torch._foreach_copy_(weights, starts)
    trainee.optimizer.step()
    return loss, logits


METHODS: dict[str, Step] = {"standard": standard_step, "adversarial": adversarial_step, "sam": sam_step}


def find_method(name: str) -> Step:
    """Return the step of a training method.

    Raises:
        UnknownNameError: no method of that name.
    """
    check_method(name)
    return METHODS[name]


def _differentiate(trainee: Trainee, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Compute the gradient of the mean loss into the weights; return loss and logits."""
    logits = trainee.forward(x)
    loss = F.cross_entropy(logits, y)
    trainee.optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    return loss.detach(), logits.detach()


def _ascend(weights: list[Tensor], config: TrainConfig) -> None:
    """Move the weights up the gradient by ρ; the gradients are used up.

    In operations on all weights at once: a network has a hundred small ones, each of which would cost a GPU
    a launch of its own.
    """
    assert config.sam_rho is not None
    ascent = [weight.grad for weight in weights if weight.grad is not None]
    # ASAM measures in units of each weight: T = |w|, and e = ρ·T²g / ‖T·g‖.
    units = torch._foreach_abs(weights) if config.sam_adaptive else ()
    if units:
        torch._foreach_mul_(ascent, units)
    norm = torch.stack(torch._foreach_norm(ascent)).norm().clamp_(min=1e-12)
    if units:
        torch._foreach_mul_(ascent, units)
    torch._foreach_mul_(ascent, config.sam_rho / norm)
    torch._foreach_add_(weights, ascent)


@contextmanager
def _frozen(model: nn.Module) -> Iterator[None]:
    """Turn weight gradients off for a while: an attack needs the image's alone."""
    flags = [weight.requires_grad for weight in model.parameters()]
    model.requires_grad_(False)
    try:
        yield
    finally:
        for weight, flag in zip(model.parameters(), flags, strict=True):
            weight.requires_grad_(flag)


@contextmanager
def _still_statistics(model: nn.Module) -> Iterator[None]:
    """Keep batch norm's running statistics as they are while it normalizes by the batch."""
    norms = [
        module
        for module in model.modules()
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.track_running_stats
    ]
    try:
        for module in norms:
            module.track_running_stats = False  # in train mode it then sees no statistics
        yield
    finally:
        for module in norms:
            module.track_running_stats = True
