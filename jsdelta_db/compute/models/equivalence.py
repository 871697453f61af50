"""Equivalence: whether two networks compute the same, in their logits and in their gradients."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from jsdelta_db.compute.data import Split
from jsdelta_db.compute.models.inference import evaluating
from jsdelta_db.errors import first_line
from jsdelta_db.runtime import seeding

IMAGES = 32
NOISE = 8 / 255
LEAST_COSINE = {torch.float32: 0.999, torch.bfloat16: 0.95}  # of the images' gradients, the median
LARGEST_CHANGE = 1e-3  # of a float32 logit, in units of the largest one: folding moves them by 1e-6 to 1e-5


@dataclass(frozen=True, slots=True)
class Behaviour:
    """What a network does with some images.

    Attributes:
        logits: float32 ``(n, classes)``.
        label: one that a network does not predict, ``(n,)``.
        gradient: of the cross-entropy towards it, ``(n, d)``.
    """

    logits: Tensor
    label: Tensor
    gradient: Tensor


def probe_images(split: Split, device: torch.device) -> Tensor:
    """Return the images that networks are compared on: the first ones of a split, clean and with keyed noise.

    They come in channels-last order, as an attack's batches do.
    """
    clean = split.batch(slice(0, min(IMAGES, len(split))))
    noise = seeding.generator("equivalence").uniform(-NOISE, NOISE, clean.shape).astype(np.float32)
    images = torch.cat([clean, (clean + torch.from_numpy(noise)).clamp_(0.0, 1.0)])
    return images.to(device).contiguous(memory_format=torch.channels_last)


def observe(network: nn.Module, images: Tensor, label: Tensor | None = None) -> Behaviour:
    """Return a network's behaviour in eval mode; its mode stays as it is.

    Args:
        images: see :func:`probe_images`.
        label: to take the gradient towards, ``(n,)``; the one after the predicted if None.
    """
    probe = images.detach().clone().requires_grad_()
    with evaluating(network), torch.enable_grad():
        logits = network(probe).float()
        if label is None:
            label = (logits.argmax(1) + 1) % logits.shape[1]
        gradient = None
        if logits.requires_grad:
            loss = F.cross_entropy(logits, label, reduction="sum")
            (gradient,) = torch.autograd.grad(loss, probe, allow_unused=True)
    if gradient is None:  # no evaluator needs one, and of a model to be attacked the preflight says so
        gradient = torch.zeros_like(probe)
    return Behaviour(logits.detach(), label, gradient.flatten(1))


def find_difference(
    expected: Behaviour, other: nn.Module, images: Tensor, dtype: torch.dtype = torch.float32
) -> str | None:
    """Return in a few words how a network's behaviour is another than expected, None if it is the same.

    Args:
        dtype: of the arithmetic inside the network; bfloat16 is held to its gradients alone.
    """
    try:
        found = observe(other, images, expected.label)
    except Exception as error:  # noqa: BLE001 forward() may be the user's
        return first_line(error)
    if dtype is torch.float32:
        moved = int((found.logits.argmax(1) != expected.logits.argmax(1)).sum())
        if moved:
            return f"other labels for {moved} of {len(images)} images"
        largest = float(expected.logits.abs().max())
        change = float((found.logits - expected.logits).abs().max())
        if not change <= LARGEST_CHANGE * largest:
            return f"logits that differ by up to {change:.3g}"
    cosine = float(_cosines(expected.gradient, found.gradient).median())
    if not cosine >= LEAST_COSINE[dtype]:
        return f"other gradients, median cosine {cosine:.3f}"
    return None


def _cosines(one: Tensor, other: Tensor) -> Tensor:
    """Return the cosine of each image's two gradients; two that are zero point the same way."""
    lengths = [part.double().norm(dim=1) for part in (one, other)]
    products = (one.double() * other.double()).sum(1)
    both_zero = (lengths[0] == 0) & (lengths[1] == 0)
    return torch.where(both_zero, 1.0, products / (lengths[0] * lengths[1]).clamp(min=1e-300))
