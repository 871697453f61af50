"""Projected gradient descent in a ball around each image."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from jsdelta_db.compute.attacks.balls import Ball
from jsdelta_db.compute.attacks.objectives import Objective

WARM_UP_STEPS = 3  # of a CUDA graph; they are steps of the attack like any other


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
    capture: bool = False,
) -> Tensor:
    """Lower every image's objective by gradient steps, and return the last iterate ``(n, …)``.

    Args:
        ball: around the clean images, which are left untouched.
        start: the first iterate's change as a share of ε, in the unit ball, shaped like the images.
        has_arrived: logits ``(n, classes)`` → bool ``(n,)``; an image that has arrived moves no further.
            None: every image takes all its steps.
        capture: on CUDA, record a step once and replay it; pays where there are many.

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
                gradient[arrived] = 0.0
            ball.step_(x_adv, gradient, steps.size)
        return arrived

    if capture and x_adv.is_cuda:
        _replay(step, steps.count)
    else:
        for _ in range(steps.count):
            arrived = step()
            if arrived is not None and bool(arrived.all()):
                break
    return x_adv.detach()


def _replay(step: Callable[[], object], count: int) -> None:
    """Capture one step as a CUDA graph and replay it: no Python and no synchronization in between."""
    side = torch.cuda.Stream()  # type: ignore[no-untyped-call] # torch's own annotations lack it
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(min(WARM_UP_STEPS, count)):
            step()
    torch.cuda.current_stream().wait_stream(side)
    if count > WARM_UP_STEPS:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            step()  # recorded, not run
        for _ in range(count - WARM_UP_STEPS):
            graph.replay()
