"""Preflight checks: images, attempts and models that would make an attack's outcome meaningless.

The mistakes that they catch make an attack fail or succeed silently:
probabilities for logits, dropout that is still on, a gradient that never reaches the image.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from jsdelta_db.compute.attacks.balls import apply_delta
from jsdelta_db.compute.models.inference import evaluating
from jsdelta_db.errors import DataError, ModelOutputError, first_line
from jsdelta_db.records import Attempts

RANGE_TOLERANCE = 1e-6  # float rounding: −3e-8 is black


def check_images(x: Tensor, what: str) -> None:
    """Check that images are numbers in [0, 1].

    Raises:
        DataError: says the smallest and the largest value.
    """
    low, high = (float(bound) for bound in x.aminmax())
    check_range(low, high, what)


def check_range(low: float, high: float, what: str) -> None:
    """Check that the least and the largest value of images are in [0, 1]; see :func:`check_images`."""
    if not (low >= -RANGE_TOLERANCE and high <= 1.0 + RANGE_TOLERANCE):
        raise DataError(
            f"{what} are in [{low:.6g}, {high:.6g}]: must be [0, 1], with normalization inside the model"
        )


def check_attempts(attempts: Attempts) -> None:
    """Check that no attempt aims at its image's own label: it would count as a success at once.

    Raises:
        DataError: names the first image.
    """
    wrong = attempts.requested_target == attempts.source_label
    if wrong.any():
        first = int(wrong.argmax())
        raise DataError(
            f"image {attempts.sample_index[first]} has label {attempts.source_label[first]} and is aimed at "
            "the same: must be another label, or -1 for any of them"
        )


def check_model(
    model: nn.Module, x: Tensor, source_label: Tensor, name: str, *, is_fresh: bool = False
) -> None:
    """Run the preflight checks on a model: its outputs and its gradients.

    Args:
        x: a few clean images on the model's device, ``(n, c, h, w)`` in [0, 1].
        source_label: their labels ``(n,)``.
        name: of the model, for the message.
        is_fresh: whether it is to be trained yet, which brings images without a gradient to life; not all.

    Raises:
        ModelOutputError: says what is wrong with them.
    """
    with evaluating(model):
        with torch.no_grad():
            logits, again = model(x).float(), model(x).float()
            try:
                alone = model(x[:1]).float()
            except Exception as error:  # forward() may be the user's
                raise ModelOutputError(
                    f"model {name} cannot take an image alone ({first_line(error)}); "
                    "does batch norm run in train mode?"
                ) from error
        _check_logits(logits, name)
        scale = float(logits.abs().max()) + 1.0
        change = float((logits - again).abs().max())
        if change > 1e-4 * scale:
            raise ModelOutputError(
                f"model {name} gives different outputs for the same images (by up to {change:.3g}); "
                "is dropout or noise on in eval mode?"
            )
        change = float((logits[:1] - alone).abs().max())
        if change > 1e-2 * scale:
            raise ModelOutputError(
                f"model {name} gives different outputs for an image alone and in a batch (by {change:.3g}); "
                "does batch norm run in train mode?"
            )
        most_empty = len(x) - 1 if is_fresh else len(x) // 2
        _check_gradient(model, x, (source_label + 1) % logits.shape[1], name, most_empty)


def _check_logits(logits: Tensor, name: str) -> None:
    if not torch.isfinite(logits).all():
        raise ModelOutputError(f"model {name} returns values that are not finite; check its weights")
    sums = logits.sum(1)
    if bool((logits >= 0).all()) and float((sums - 1.0).abs().max()) < 1e-3:
        raise ModelOutputError(
            f"model {name} returns probabilities (rows add up to {float(sums.mean()):.4f}); "
            "return logits: leave the softmax out"
        )


def _check_gradient(model: nn.Module, x: Tensor, target: Tensor, name: str, most_empty: int) -> None:
    probe = apply_delta(x, torch.zeros_like(x)).requires_grad_()
    try:
        loss = F.cross_entropy(model(probe).float(), target, reduction="sum")
        (gradient,) = torch.autograd.grad(loss, probe)
    except RuntimeError as error:
        raise ModelOutputError(
            f"no gradient of model {name} reaches the image; does its forward() detach it or leave torch?"
        ) from error
    if not torch.isfinite(gradient).all():
        raise ModelOutputError(f"the gradient of model {name} is not finite; check its weights")
    empty = int((gradient.flatten(1).abs().amax(1) == 0).sum())
    if empty > most_empty:
        raise ModelOutputError(
            f"the gradient of model {name} is zero for {empty} of {len(x)} images; "
            "an attack cannot follow it, and its failure would not mean robustness"
        )
