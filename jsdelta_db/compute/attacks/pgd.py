"""Projected gradient descent in a ball around each image."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from jsdelta_db.compute.attacks.balls import Ball, per_image
from jsdelta_db.compute.attacks.capture import Capture, RepeatedStep
from jsdelta_db.compute.attacks.objectives import Objective

FEWEST_CAPTURED = 10  # steps: a capture costs about as much as two or three that are not replayed


@dataclass(frozen=True, slots=True)
class Steps:
    """A number of gradient steps of one size.

    Attributes:
        size: in pixel units of [0, 1], in the ball's norm.
    """

    count: int
    size: float


def pgd(
    objective: Objective,
    ball: Ball,
    start: Tensor,
    steps: Steps,
    *,
    has_arrived: Callable[[Tensor], Tensor] | None = None,
    capture: Capture | None = None,
) -> Tensor:
    """Lower every image's objective by gradient steps, and return the last iterate ``(n, …)``.

    Args:
        ball: around the clean images, which are left untouched.
        start: the first iterate's change as a share of ε, in the unit ball, shaped like the images.
        has_arrived: logits ``(n, classes)`` → bool ``(n,)``; an image that has arrived moves no further.
            None: every image takes all its steps.
        capture: on CUDA, whether a step may be captured once and replayed, where there are many;
            None: it may not.

    Source: Madry et al. 2018, "Towards Deep Learning Models Resistant to Adversarial Attacks".
    """
    x_adv = ball.project_(ball.x + ball.eps * start).requires_grad_()

    def step() -> Tensor | None:
        loss, logits = objective(x_adv)
        # The sum, not the mean: no image's gradient depends on how many others are in the batch.
        (gradient,) = torch.autograd.grad(loss.sum(), x_adv)
        with torch.no_grad():
            arrived = None if has_arrived is None else has_arrived(logits)
            if arrived is not None:
                gradient.masked_fill_(per_image(arrived, gradient), 0.0)
            ball.step_(x_adv, gradient, steps.size)
        return arrived

    if capture is None or steps.count < FEWEST_CAPTURED:
        capture = Capture(is_allowed=False)
    with exact_attention(x_adv.device):
        repeated = RepeatedStep(step, x_adv.device, capture)
        repeated.run(steps.count, None if has_arrived is None else _have_all_arrived)
    return x_adv.detach()


def exact_attention(device: torch.device) -> AbstractContextManager[object]:
    """Compute attention so that gradients are the same each time: CUDA's fused backward passes are not."""
    return sdpa_kernel(SDPBackend.MATH) if device.type == "cuda" else nullcontext()


def _have_all_arrived(arrived: Tensor | None) -> bool:
    return arrived is not None and bool(arrived.all())
