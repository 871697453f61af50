"""Attacks as somebody else would write them, good and bad; the tests name them ``tests.somebodys:…``."""

import random

import numpy as np
import torch
from torch.nn import functional as F


def fgsm(model, x, label, target_label, eps, norm, factor=1.0):
    """One signed step towards the target, or away from the label."""
    probe = x.clone().requires_grad_()
    sign = 1.0 if target_label is None else -1.0
    loss = F.cross_entropy(model(probe), label if target_label is None else target_label, reduction="sum")
    (gradient,) = torch.autograd.grad(loss, probe)
    return (x + sign * factor * eps * gradient.sign()).clamp(0, 1)


def steps(model, x, label, target_label, eps, norm, n=3):
    """Some signed steps; starts from all three global generators."""
    noise = torch.rand_like(x) + torch.from_numpy(np.random.rand(*x.shape)).float() + random.random()
    x_adv = (x + eps * (noise / 1.5 - 1.0)).clamp(0, 1)
    for _ in range(n):
        x_adv = x_adv.detach().requires_grad_()
        F.cross_entropy(model(x_adv), target_label, reduction="sum").backward()
        x_adv = torch.clamp(x_adv - eps * x_adv.grad.sign(), x - eps, x + eps).clamp(0, 1)
    return x_adv


def too_far(model, x, label, target_label, eps, norm):
    """Every second image twice as far as allowed."""
    x_adv = fgsm(model, x, label, target_label, eps, norm)
    x_adv[::2] = fgsm(model, x, label, target_label, eps, norm, factor=2.0)[::2]
    return x_adv


def nan(model, x, *rest):
    return x * float("nan")


def another_shape(model, x, *rest):
    return x.flatten(1)


def out_of_range(model, x, *rest):
    return x + 1.0


def levels(model, x, *rest):
    return (x * 255).to(torch.uint8)


def in_place(model, x, label, target_label, eps, norm):
    return x.add_(eps).clamp_(0, 1)


def no_more_gradients(model, x, *rest):
    torch.set_grad_enabled(False)
    return x.clone()


def nothing(model, x, *rest):
    return None


def failing(model, x, *rest):
    raise ValueError("no luck\nwith details")


def network_eater(model, x, *rest):
    """Makes good images, then changes the model that it was given, and the mode that it was in."""
    x_adv = fgsm(model, x, *rest)
    model.train()
    with torch.no_grad():
        for weights in model.parameters():
            weights.fill_(float("nan"))
    return x_adv


BAD = {
    "nan": "not finite",
    "another_shape": "returns shape",
    "out_of_range": r"must be \[0, 1\]",
    "levels": "torch.uint8",
    "in_place": "changes the images",
    "no_more_gradients": "gradients switched off",
    "nothing": "returns NoneType",
    "failing": "failed: no luck$",
}
