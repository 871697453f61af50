"""How firmly an adversarial sample sits at its label: noise around it, and what the model says then."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from jsdelta_db.compute.attacks.balls import BALLS
from jsdelta_db.compute.models.inference import forward
from jsdelta_db.records import Attempts
from jsdelta_db.runtime import seeding

DRAWS = 8
AMPLITUDE = 0.5  # of ε


def sign_noise(attempts: Attempts, shape: tuple[int, ...], purpose: str, seed: int, draw: int = 0) -> Tensor:
    """Draw signs ±1 ``(n, *shape)``, keyed by what they are for and (seed, image, target, draw)."""
    signs = [
        seeding.generator(purpose, seed, int(index), int(target), draw).integers(0, 2, shape, dtype=np.int8)
        for index, target in zip(attempts.sample_index, attempts.requested_target, strict=True)
    ]
    return torch.from_numpy(np.stack(signs)).to(torch.float32).mul_(2.0).sub_(1.0)


def measure_stability(
    model: nn.Module,
    x_adv: Tensor,
    attempts: Attempts,
    target_label: NDArray[np.int64],
    *,
    norm: str,
    eps: float,
    seed: int,
    device: torch.device,
) -> NDArray[np.float64]:
    """Return the share of 8 noise draws of amplitude ε/2 under which the model still says t, ``(n,)``.

    Args:
        model: the attacked model.
        x_adv: successful samples, float32 ``(n, c, h, w)``.
        target_label: the label t that each reached, ``(n,)``.
        seed: the attack's.
    """
    held = np.zeros(len(attempts))
    for draw in range(DRAWS):
        signs = sign_noise(attempts, tuple(x_adv.shape[1:]), "stability", seed, draw)
        noisy = (x_adv + BALLS[norm].spread(signs, AMPLITUDE * eps)).clamp_(0.0, 1.0)
        held += forward(model, noisy.to(device)).argmax(1) == target_label
    return held / DRAWS
