"""What counts as a successful attack: defined here and nowhere else."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from jsdelta_db.records import UNTARGETED


def is_success(
    clean_logits: NDArray[np.float32],
    adversarial_logits: NDArray[np.float32],
    source_label: NDArray[np.int64],
    requested_target: NDArray[np.int64],
) -> NDArray[np.bool_]:
    """Decide, per attempt ``(n,)``: right before, and at the target (or any wrong label) after.

    Args:
        clean_logits, adversarial_logits: the attacked model's logits ``(n, classes)``.
        source_label: the label y.
        requested_target: the label t, or −1 for any wrong label.
    """
    after = adversarial_logits.argmax(1)
    reached = np.where(requested_target == UNTARGETED, after != source_label, after == requested_target)
    return np.asarray((clean_logits.argmax(1) == source_label) & reached)


def has_arrived(logits: Tensor, source_label: Tensor, requested_target: Tensor) -> Tensor:
    """Decide the same of a batch under attack, of images that the model had right: bool ``(n,)``."""
    after = logits.argmax(1)
    return torch.where(requested_target == UNTARGETED, after != source_label, after == requested_target)


def aimed_or_reached(
    adversarial_logits: NDArray[np.float32],
    source_label: NDArray[np.int64],
    requested_target: NDArray[np.int64],
) -> NDArray[np.int64]:
    """Return the label t of each attempt ``(n,)``: the one aimed at, or the one reached if none was.

    An untargeted attempt that failed counts towards the wrong label it came closest to, so that it
    stays among the attempts on a label pair that has a baseline.
    """
    wrong = adversarial_logits.copy()
    wrong[np.arange(len(wrong)), source_label] = -np.inf
    return np.asarray(np.where(requested_target == UNTARGETED, wrong.argmax(1), requested_target))
