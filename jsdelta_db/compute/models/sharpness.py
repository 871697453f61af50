"""Sharpness of a model's minimum: the rise of its loss at a SAM step."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from jsdelta_db.compute.data import Split
from jsdelta_db.compute.data.dataset import as_unit_range
from jsdelta_db.compute.models.inference import batch_size, evaluating

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
            scale = radius / max(float(norm), 1e-12)  # read once: each reading makes the device wait
            with torch.no_grad():
                for weight, part in zip(weights, gradients, strict=True):
                    weight.add_(part, alpha=scale)
                after = _total(_losses(model, split, device), device)
    finally:
        with torch.no_grad():
            for weight, value, flag in zip(weights, before_step, needed_grad, strict=True):
                weight.copy_(value)
                weight.requires_grad_(flag)
    return float(after) / len(split) - float(before) / len(split)


def _loss_and_gradients(
    model: nn.Module, weights: list[nn.Parameter], split: Split, device: torch.device
) -> tuple[Tensor, list[Tensor]]:
    """Return the summed loss over a split, and the gradients of its mean."""
    gradients = [torch.zeros_like(weight) for weight in weights]

    def differentiated() -> Iterator[Tensor]:
        for loss in _losses(model, split, device):
            parts = torch.autograd.grad(loss, weights, allow_unused=True)
            for gradient, part in zip(gradients, parts, strict=True):
                if part is not None:
                    gradient.add_(part, alpha=1.0 / len(split))
            yield loss.detach()

    return _total(differentiated(), device), gradients


def _total(losses: Iterator[Tensor], device: torch.device) -> Tensor:
    """Add up on the device, in float64."""
    return sum(losses, torch.zeros((), dtype=torch.float64, device=device))


def _losses(model: nn.Module, split: Split, device: torch.device) -> Iterator[Tensor]:
    """Yield the summed loss of one batch after the other."""
    size = batch_size(device)
    for start in range(0, len(split), size):
        part = slice(start, start + size)
        logits = model(as_unit_range(split.images[part].to(device, non_blocking=True))).float()
        yield F.cross_entropy(logits, split.labels[part].to(device, non_blocking=True), reduction="sum")
