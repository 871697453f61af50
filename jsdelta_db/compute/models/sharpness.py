"""Sharpness of a model's minimum: the rise of its loss at a SAM step."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from jsdelta_db.compute.data import Split
from jsdelta_db.compute.models.inference import BATCH_SIZE, evaluating

RADIUS = 0.05  # SAM's usual radius on CIFAR-10


def sharpness(model: nn.Module, split: Split, device: torch.device, radius: float = RADIUS) -> float:
    """Return L(w + radius · g/‖g‖) − L(w), with g the gradient of the mean loss L on a split.

    The model runs in eval mode; its weights, gradients and modes are restored.

    Source: Foret et al. 2021, "Sharpness-Aware Minimization", equation 2.
    """
    weights = [weight for weight in model.parameters() if weight.is_floating_point()]
    needed_grad = [weight.requires_grad for weight in weights]
    before_step = [weight.detach().clone() for weight in weights]
    try:
        with evaluating(model):
            for weight in weights:
                weight.requires_grad_(True)
            before, gradients = _loss_and_gradients(model, weights, split, device)
            norm = torch.sqrt(
                sum((part.square().sum() for part in gradients), torch.zeros((), device=device))
            )
            with torch.no_grad():
                for weight, part in zip(weights, gradients, strict=True):
                    weight.add_(part, alpha=radius / max(float(norm), 1e-12))
                after = sum(float(loss) for loss in _losses(model, split, device)) / len(split)
    finally:
        with torch.no_grad():
            for weight, value, flag in zip(weights, before_step, needed_grad, strict=True):
                weight.copy_(value)
                weight.requires_grad_(flag)
    return after - before


def _loss_and_gradients(
    model: nn.Module, weights: list[nn.Parameter], split: Split, device: torch.device
) -> tuple[float, list[Tensor]]:
    gradients = [torch.zeros_like(weight) for weight in weights]
    total = 0.0
    for loss in _losses(model, split, device):
        total += float(loss.detach())
        parts = torch.autograd.grad(loss, weights, allow_unused=True)
        for gradient, part in zip(gradients, parts, strict=True):
            if part is not None:
                gradient.add_(part, alpha=1.0 / len(split))
    return total / len(split), gradients


def _losses(model: nn.Module, split: Split, device: torch.device) -> Iterator[Tensor]:
    """Yield the summed loss of one batch after the other."""
    for start in range(0, len(split), BATCH_SIZE):
        part = slice(start, start + BATCH_SIZE)
        logits = model(split.batch(part).to(device)).float()
        yield F.cross_entropy(logits, split.labels[part].to(device), reduction="sum")
