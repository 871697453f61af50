"""Augmentation: random crops and flips on whole batches, without per-image Python."""

import torch
from torch import Tensor


def augment(images: Tensor, padding: int, flip: bool, generator: torch.Generator) -> Tensor:
    """Return images shifted by up to ``padding`` pixels, half of them mirrored if ``flip``.

    Args:
        images: ``(n, c, h, w)``, of any dtype; pixels shifted in take the nearest edge's value.
        padding: largest shift in pixels; 0 for none.
        flip: whether to mirror left and right with probability 1/2.
        generator: on the CPU, so that every device draws the same shifts.
    """
    n, _, height, width = images.shape
    if padding:
        rows = _shifted(n, height, padding, generator).to(images.device)
        columns = _shifted(n, width, padding, generator).to(images.device)
        if flip:
            mirrored = (torch.rand(n, generator=generator) < 0.5).to(images.device)
            columns = torch.where(mirrored[:, None], columns.flip(1), columns)
        image = torch.arange(n, device=images.device)[:, None, None]
        # Advanced indices around a slice give (n, h, w, c): channels_last for free.
        return images[image, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
    if flip:
        mirrored = (torch.rand(n, generator=generator) < 0.5).to(images.device)
        return torch.where(mirrored[:, None, None, None], images.flip(3), images)
    return images


def _shifted(n: int, size: int, padding: int, generator: torch.Generator) -> Tensor:
    """Return source coordinates ``(n, size)`` of randomly shifted images, clamped to the edge."""
    shift = torch.randint(-padding, padding + 1, (n, 1), generator=generator)
    return (torch.arange(size)[None, :] + shift).clamp_(0, size - 1)
