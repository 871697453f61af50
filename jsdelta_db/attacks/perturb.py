"""One chunk of attempts through an attack: keyed starts, steps, stored precision, success."""

import copy

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from jsdelta_db import keyed
from jsdelta_db.attacks.criteria import is_success
from jsdelta_db.attacks.pgd import targeted_pgd
from jsdelta_db.config import AttackConfig
from jsdelta_db.data import Split
from jsdelta_db.models.inference import forward
from jsdelta_db.records import Attempts, Samples

CPU_CHUNK_VALUES = 2**18  # input values in a batch: 80 images of 3×32×32; larger is not faster on a CPU
GPU_CHUNK_VALUES = 2**22
LARGEST_CPU_CHUNK, LARGEST_GPU_CHUNK = 256, 4096


class PreparedModel:
    """An attacked model beside the frozen copy that the gradient steps run on.

    The original checks success; its mode and ``requires_grad`` are left as they were.
    """

    def __init__(self, model: nn.Module, device: torch.device) -> None:
        self.model = model.to(device)
        self.device = device
        self.frozen = fold_batch_norm(copy.deepcopy(model).eval()).requires_grad_(False)
        self.frozen.to(memory_format=torch.channels_last)


def fold_batch_norm(model: nn.Module) -> nn.Module:
    """Merge each batch norm into the convolution before it; the model itself where it can not be traced.

    The function is the same but for rounding, and a step costs 10 to 40 % less.
    """
    from torch import fx
    from torch.fx.experimental.optimization import fuse

    try:
        traced = fx.symbolic_trace(model)
        calls = [str(node.target) for node in traced.graph.nodes if node.op == "call_module"]
        weighty = [name for name in calls if any(True for _ in traced.get_submodule(name).parameters())]
        if len(weighty) != len(set(weighty)):
            return model  # fuse() folds into a convolution even where it is used a second time
        return fuse(traced, no_trace=True)
    except Exception:  # noqa: BLE001 a user's forward() may do anything: then the plain copy serves
        return model


def plan_chunk_size(image_shape: tuple[int, ...], device: torch.device) -> int:
    """Choose how many attempts make one batch, from the image's size and the kind of device."""
    on_gpu = device.type == "cuda"
    size = (GPU_CHUNK_VALUES if on_gpu else CPU_CHUNK_VALUES) // int(np.prod(image_shape))
    return max(16, min(LARGEST_GPU_CHUNK if on_gpu else LARGEST_CPU_CHUNK, size // 16 * 16))


def perturb(
    prepared: PreparedModel,
    split: Split,
    attempts: Attempts,
    clean_logits: NDArray[np.float32],
    config: AttackConfig,
    chunk_size: int,
) -> Samples:
    """Attack one chunk; equal inputs give equal bytes, whatever ran before or beside it.

    Args:
        attempts: at most ``chunk_size`` of them; a shorter chunk is padded, so that every batch of an
            attack has one shape.
        clean_logits: the attacked model's logits on the whole split ``(images, classes)``.
    """
    rows = split.rows_of(attempts.sample_index)
    x = split.batch(rows)
    noise = start_noise(attempts, tuple(x.shape[1:]), config)
    target = torch.from_numpy(attempts.requested_target)
    padded = [_pad(part, chunk_size).to(prepared.device) for part in (x, noise, target)]
    x_pad, noise_pad = (part.contiguous(memory_format=torch.channels_last) for part in padded[:2])
    x_adv = targeted_pgd(
        prepared.frozen, x_pad, padded[2], noise_pad,
        eps=config.eps, step_size=config.step_size, steps=config.steps,
    )  # fmt: skip
    delta = to_stored_precision(x_pad, x_adv, config.eps)
    stored = apply_delta(x_pad, delta)
    n = len(attempts)
    logits = forward(prepared.model, stored)[:n]
    change = (stored[:n].cpu().double() - x.double()).flatten(1)
    return Samples(
        attempts=attempts,
        target_label=attempts.requested_target,
        success=is_success(clean_logits[rows], logits, attempts.source_label, attempts.requested_target),
        confidence=_probability(logits, attempts.requested_target),
        linf=change.abs().amax(1).numpy(),
        l2=change.norm(dim=1).numpy(),
        delta=delta[:n].cpu().contiguous().numpy(),
        logits=logits,
    )


def start_noise(attempts: Attempts, shape: tuple[int, ...], config: AttackConfig) -> Tensor:
    """Draw each attempt's start in [−1, 1], keyed by (seed, image, target, restart) alone."""
    if not config.random_start:
        return torch.zeros(len(attempts), *shape)
    restart = 0
    draws = [
        keyed.generator("start", config.seed, int(index), int(target), restart).random(
            shape, dtype=np.float32
        )
        for index, target in zip(attempts.sample_index, attempts.requested_target, strict=True)
    ]
    return torch.from_numpy(np.stack(draws)).mul_(2.0).sub_(1.0)


def to_stored_precision(x: Tensor, x_adv: Tensor, eps: float) -> Tensor:
    """Round a perturbation to float16 without leaving the Linf ball."""
    # The largest float16 that stays below ε even after x + delta is rounded to float32.
    limit = np.float16(eps)
    while limit > 0 and float(limit) > eps - 2.0**-24:
        limit = np.nextafter(limit, np.float16(0))
    return (x_adv - x).clamp_(-float(limit), float(limit)).to(torch.float16)


def apply_delta(x: Tensor, delta: Tensor) -> Tensor:
    """Return the image that is checked and scored: x + delta in float32, clipped to [0, 1]."""
    return (x + delta.to(torch.float32)).clamp_(0.0, 1.0)


def _pad(part: Tensor, size: int) -> Tensor:
    """Repeat the first row until there are ``size`` rows."""
    missing = size - len(part)
    return torch.cat([part, part[:1].expand(missing, *part.shape[1:])]) if missing else part


def _probability(logits: NDArray[np.float32], label: NDArray[np.int64]) -> NDArray[np.float64]:
    probs = torch.from_numpy(logits).double().softmax(1).numpy()
    return np.asarray(probs[np.arange(len(label)), label])
