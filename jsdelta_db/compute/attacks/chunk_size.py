"""Chunk size: the attempts in one batch, chosen once when an attack is planned."""

import numpy as np
import torch

from jsdelta_db.compute.attacks.pgd import exact_attention
from jsdelta_db.compute.attacks.prepare import PreparedModel
from jsdelta_db.runtime.memory import free_bytes

CPU_VALUES = 2**18  # input values in a batch: 80 images of 3×32×32; larger is not faster on a CPU
LARGEST_ON_CPU, LARGEST_ON_GPU = 256, 4096
STEP = 16  # the most that fits is a multiple of it
# Of the free memory: plain steps and a graph hold it apart, another process may plan as much at the same
# time, and blocks are cut unevenly. What does not fit after all is halved.
GPU_SHARE = 0.35


def plan_chunk_size(
    image_shape: tuple[int, ...], prepared: PreparedModel, n_attempts: int, n_surrogates: int = 0
) -> int:
    """Return the batch size for an attack on a model.

    On a CPU the most that fits follows from the image's size; on a GPU from the memory that one gradient
    step takes. The attempts are then shared out evenly: a last batch that is mostly padding cost 7 % of
    an attack.

    Args:
        image_shape: channels, height, width.
        n_attempts: of the whole attack.
        n_surrogates: models of the same size that a step evaluates, too.
    """
    if prepared.device.type != "cuda":
        size, largest = CPU_VALUES // int(np.prod(image_shape)), LARGEST_ON_CPU
    else:
        needed = _bytes_per_image(image_shape, prepared) * (1 + n_surrogates)
        size, largest = int(GPU_SHARE * free_bytes(prepared.device) / max(needed, 1.0)), LARGEST_ON_GPU
    most = max(STEP, min(largest, size // STEP * STEP))
    chunks = -(-n_attempts // most)
    return -(-n_attempts // chunks)


def _bytes_per_image(image_shape: tuple[int, ...], prepared: PreparedModel) -> float:
    """Measure the memory that one gradient step allocates, per image.

    The second step is measured: in the first one libraries allocate workspaces, which they keep.
    """
    _take_step(image_shape, prepared)
    device = prepared.device
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    _take_step(image_shape, prepared)
    return float(torch.cuda.max_memory_allocated(device) - before) / STEP


def _take_step(image_shape: tuple[int, ...], prepared: PreparedModel) -> None:
    x = torch.zeros(STEP, *image_shape, device=prepared.device)
    order = torch.channels_last if x.dim() == 4 else torch.contiguous_format
    x = x.contiguous(memory_format=order).requires_grad_()
    with exact_attention(prepared.device):
        torch.autograd.grad(prepared.frozen(x).sum(), x)
