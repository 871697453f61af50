"""Augmentation: random crops and flips on whole batches, without per-image Python."""

import torch
from torch import Tensor

from jsdelta_db.compute.training.images import send


def augment(images: Tensor, padding: int, flip: bool, generator: torch.Generator) -> Tensor:
    """Return images shifted by up to ``padding`` pixels, half of them mirrored if ``flip``.

    Args:
        images: ``(n, c, h, w)``, of any dtype; pixels shifted in take the nearest edge's value.
        padding: largest shift in pixels; 0 for none.
        flip: whether to mirror left and right with probability 1/2.
        generator: on the CPU, so that every device draws the same shifts.
    """
    n, _, height, width = images.shape
    shifts = [
        torch.randint(-padding, padding + 1, (n, 1), generator=generator) for _ in range(2 if padding else 0)
    ]
    mirror = [(torch.rand(n, 1, generator=generator) < 0.5).long()] if flip else []
    if not shifts + mirror:
        return images
    drawn = send(torch.cat(shifts + mirror, 1), images.device)
    mirrored = drawn[:, -1:].bool()
    if not padding:
        return torch.where(mirrored[:, :, None, None], images.flip(3), images)
    rows, columns = (_source(drawn[:, axis], size) for axis, size in enumerate((height, width)))
    if flip:
        columns = torch.where(mirrored, columns.flip(1), columns)
    image = torch.arange(n, device=images.device)[:, None, None]
    # Advanced indices around a slice give (n, h, w, c): channels_last for free.
    return images[image, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def _source(shift: Tensor, size: int) -> Tensor:
    """Return source coordinates ``(n, size)`` of images shifted by ``(n,)`` pixels, clamped to the edge."""
    return (torch.arange(size, device=shift.device) + shift[:, None]).clamp_(0, size - 1)
