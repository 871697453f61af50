"""Stability: the share of noise draws around an adversarial sample under which its label stays."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from jsdelta_db.compute.attacks.balls import BALLS, apply_delta
from jsdelta_db.compute.models.inference import predict_images
from jsdelta_db.records import Attempts, Samples
from jsdelta_db.runtime import seeding
from jsdelta_db.runtime.memory import SubBatch

DRAWS = 8
AMPLITUDE = 0.5  # of ε


def sign_noise(attempts: Attempts, shape: tuple[int, ...], purpose: str, seed: int, draw: int = 0) -> Tensor:
    """Draw signs ±1 ``(n, *shape)``, keyed by purpose, seed, image, target and draw."""
    signs = [
        seeding.generator(purpose, seed, int(index), int(target), draw).integers(0, 2, shape, dtype=np.int8)
        for index, target in zip(attempts.sample_index, attempts.requested_target, strict=True)
    ]
    return torch.from_numpy(np.stack(signs)).to(torch.float32).mul_(2.0).sub_(1.0)


def measure_stability(
    model: nn.Module, samples: Samples, *, norm: str, eps: float, seed: int, device: torch.device
) -> NDArray[np.float64]:
    """Return the share of 8 noise draws of amplitude ε/2 under which the label t stays, ``(n,)``.

    Args:
        model: the attacked model, on ``device``.
        samples: successful ones; each has reached its ``target_label`` t.
        seed: the attack's.
    """
    x_adv = apply_delta(torch.from_numpy(samples.x), torch.from_numpy(samples.delta))
    stable, batch = np.zeros(len(x_adv)), SubBatch(len(x_adv))
    for draw in range(DRAWS):
        signs = sign_noise(samples.attempts, tuple(x_adv.shape[1:]), "stability", seed, draw)
        noisy = (x_adv + BALLS[norm].spread(signs, AMPLITUDE * eps)).clamp_(0.0, 1.0)
        (logits,) = predict_images([model], noisy, device, batch, "while measuring stability")
        stable += logits.argmax(1) == samples.target_label
    return stable / DRAWS
