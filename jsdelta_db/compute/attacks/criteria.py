"""The criterion of a successful attack, defined here and nowhere else."""

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
    """Return per attempt ``(n,)`` whether it is right before, and at its target after.

    The target may be any wrong label.

    Args:
        clean_logits, adversarial_logits: the attacked model's logits ``(n, classes)``.
        source_label: the label y.
        requested_target: the label t, or −1 for any wrong label.
    """
    after = adversarial_logits.argmax(1)
    reached = np.where(requested_target == UNTARGETED, after != source_label, after == requested_target)
    return np.asarray((clean_logits.argmax(1) == source_label) & reached)


def has_arrived(logits: Tensor, source_label: Tensor, requested_target: Tensor) -> Tensor:
    """Return whether images under attack have reached their target, bool ``(n,)``.

    The same criterion as :func:`is_success`, of images that the model classified correctly.
    """
    after = logits.argmax(1)
    return torch.where(requested_target == UNTARGETED, after != source_label, after == requested_target)


def aimed_or_reached(
    adversarial_logits: NDArray[np.float32],
    source_label: NDArray[np.int64],
    requested_target: NDArray[np.int64],
) -> NDArray[np.int64]:
    """Return each attempt's label t ``(n,)``: the requested one, or else the one reached.

    An untargeted attempt that failed counts towards the wrong label it came closest to, so that it
    stays among the attempts on a label pair that has a baseline.
    """
    wrong = adversarial_logits.copy()
    wrong[np.arange(len(wrong)), source_label] = -np.inf
    return np.asarray(np.where(requested_target == UNTARGETED, wrong.argmax(1), requested_target))
