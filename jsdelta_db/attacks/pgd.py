"""Targeted projected gradient descent in the Linf ball."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def targeted_pgd(
    model: nn.Module, x: Tensor, target: Tensor, noise: Tensor, *, eps: float, step_size: float, steps: int
) -> Tensor:
    """Walk every image towards its target by ``steps`` signed gradient steps; the last iterate is kept.

    Args:
        model: frozen, in eval mode; takes images in [0, 1].
        x: clean images, float32 ``(n, c, h, w)`` in [0, 1]; left untouched.
        target: labels aimed at, ``(n,)``.
        noise: the start as a share of ε, in [−1, 1], shaped like ``x``.
        eps, step_size: in pixel units of [0, 1].

    Source: Madry et al. 2018, "Towards Deep Learning Models Resistant to Adversarial Attacks".
    """
    lower, upper = (x - eps).clamp_(min=0.0), (x + eps).clamp_(max=1.0)
    x_adv = (x + eps * noise).clamp_(min=lower, max=upper).requires_grad_()
    for _ in range(steps):
        # The sum, not the mean: no image's gradient depends on how many others are in the batch.
        loss = F.cross_entropy(model(x_adv), target, reduction="sum")
        (gradient,) = torch.autograd.grad(loss, x_adv)
        with torch.no_grad():
            x_adv.sub_(gradient.sign_(), alpha=step_size).clamp_(min=lower, max=upper)
    return x_adv.detach()
