"""Inference: forward passes in eval mode, in float32, in as large batches as the device takes."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from jsdelta_db.compute.data import Split
from jsdelta_db.compute.data.dataset import as_unit_range
from jsdelta_db.errors import ModelOutputError
from jsdelta_db.runtime.memory import SubBatch

# On a CPU the stored logits are compared byte for byte, and another batch rounds otherwise: never change it.
BATCH_SIZE = 256
BATCH_SIZE_ON_GPU = 2048  # fewer leave a GPU waiting for the host


def batch_size(device: torch.device) -> int:
    """Return how many images a device is given at once."""
    return BATCH_SIZE_ON_GPU if device.type == "cuda" else BATCH_SIZE


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

    Its mode stays as it is. Images travel as they are stored, and the host waits once, for the logits.

    Raises:
        ModelOutputError: some logit is not finite.
        OutOfMemoryError: the device cannot take a single image.
    """

    def in_batches(size: int) -> NDArray[np.float32]:
        parts = [
            model(as_unit_range(split.images[start : start + size].to(device, non_blocking=True))).float()
            for start in range(0, len(split), size)
        ]
        return _finite(torch.cat(parts))

    with evaluating(model):
        return SubBatch(batch_size(device)).fit(in_batches, "while predicting")


@torch.no_grad()
def predict_images(
    models: Sequence[nn.Module], images: Tensor, device: torch.device, batch: SubBatch, doing: str
) -> NDArray[np.float32]:
    """Return models' logits on images, float32 ``(models, n, classes)``; their modes stay as they are.

    Args:
        models: at least one, on the device.
        images: float32 ``(n, c, h, w)`` in [0, 1]; each goes to the device once.
        batch: how many at once; halved where memory does not suffice.
        doing: the work, such as ``while judging``.

    Raises:
        ModelOutputError: some logit is not finite.
        OutOfMemoryError: the device cannot take a single image.
    """

    def in_batches(size: int) -> NDArray[np.float32]:
        parts = []
        for part in torch.split(images, size):
            shown = part.to(device, non_blocking=True)
            parts.append(np.stack([forward(model, shown) for model in models]))
        return np.concatenate(parts, axis=1)

    return batch.fit(in_batches, doing)


@torch.no_grad()
def forward(model: nn.Module, images: Tensor) -> NDArray[np.float32]:
    """Return a model's logits on one batch in eval mode, float32 ``(n, classes)``.

    Its mode stays as it is.

    Raises:
        ModelOutputError: some logit is not finite.
    """
    with evaluating(model):
        return _finite(model(images).float())


def _finite(logits: Tensor) -> NDArray[np.float32]:
    found = np.asarray(logits.cpu().numpy())
    if not np.isfinite(found).all():
        raise ModelOutputError("the model returns values that are not finite; check its weights")
    return found
