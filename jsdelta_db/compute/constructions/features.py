"""Penultimate features: the input of a network's last linear layer."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from jsdelta_db.errors import ModelError

Features = Callable[[Tensor], Tensor]


def penultimate(model: nn.Module, x: Tensor) -> Features:
    """Return the function from images to their penultimate features, float32 ``(n, d)``.

    Args:
        model: in eval mode.
        x: one or more images, to find the layer that runs last.

    Raises:
        ModelError: the network has no linear layer.
    """
    seen: list[tuple[nn.Module, Tensor]] = []
    layers = [module for module in model.modules() if isinstance(module, nn.Linear)]
    hooks = [
        layer.register_forward_pre_hook(lambda layer, inputs: seen.append((layer, inputs[0])))
        for layer in layers
    ]
    try:
        with torch.no_grad():
            model(x)
    finally:
        for hook in hooks:
            hook.remove()
    if not seen:
        raise ModelError(
            "the network has no linear layer, so it has no penultimate features; use another member"
        )
    last = seen[-1][0]

    def features(images: Tensor) -> Tensor:
        found: list[Tensor] = []
        hook = last.register_forward_pre_hook(lambda layer, inputs: found.append(inputs[0]))
        try:
            model(images)
        finally:
            hook.remove()
        return found[-1].flatten(1).float()

    return features
