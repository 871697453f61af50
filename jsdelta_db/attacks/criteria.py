"""What counts as a successful attack: defined here and nowhere else."""

import numpy as np
from numpy.typing import NDArray

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
