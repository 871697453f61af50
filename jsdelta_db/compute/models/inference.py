"""Inference: forward passes in eval mode, in float32 and in batches of one size."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from jsdelta_db.compute.data import Split
from jsdelta_db.errors import ModelOutputError

BATCH_SIZE = 256


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put a model into eval mode for a block; each layer gets its own mode back afterwards."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


@torch.no_grad()
def predict(model: nn.Module, split: Split, device: torch.device) -> NDArray[np.float32]:
    """Return a model's logits on every image of a split, float32 ``(n, classes)``.

    Its mode stays as it is.

    Raises:
        ModelOutputError: some logit is not finite.
    """
    return np.concatenate(
        [
            forward(model, split.batch(slice(start, start + BATCH_SIZE)).to(device))
            for start in range(0, len(split), BATCH_SIZE)
        ]
    )


@torch.no_grad()
def forward(model: nn.Module, images: Tensor) -> NDArray[np.float32]:
    """Return a model's logits on one batch in eval mode, float32 ``(n, classes)``.

    Its mode stays as it is.

    Raises:
        ModelOutputError: some logit is not finite.
    """
    with evaluating(model):
        logits = model(images).float()
    if not torch.isfinite(logits).all():
        raise ModelOutputError("the model returns values that are not finite; check its weights")
    return np.asarray(logits.cpu().numpy())
