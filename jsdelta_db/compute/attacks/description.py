"""Descriptions of samples: sizes, confidence and success, measured on what is stored."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from jsdelta_db.compute.attacks.balls import L2Ball, LinfBall, apply_delta
from jsdelta_db.compute.attacks.criteria import aimed_or_reached, is_success
from jsdelta_db.records import Attempts, Samples


@dataclass(frozen=True, slots=True)
class Perturbed:
    """An attacked chunk before it is described; in main memory, so that any thread may do that.

    Attributes:
        x, delta, clean_logits, logits: see :class:`jsdelta_db.records.Samples`.
        sub_batch: attempts that were attacked at a time; None for all of them.
    """

    attempts: Attempts
    x: NDArray[np.float32]
    delta: NDArray[np.floating[Any]]
    clean_logits: NDArray[np.float32]
    logits: NDArray[np.float32]
    sub_batch: int | None = None

    def describe(self) -> Samples:
        """Measure the samples."""
        return describe_samples(
            self.attempts, torch.from_numpy(self.x), torch.from_numpy(self.delta), self.clean_logits,
            self.logits,
        )  # fmt: skip


def describe_samples(
    attempts: Attempts,
    x: Tensor,
    delta: Tensor,
    clean_logits: NDArray[np.float32],
    logits: NDArray[np.float32],
) -> Samples:
    """Measure samples as they are stored.

    Args:
        x: clean images ``(n, …)``, on the CPU.
        delta: at stored precision, on the CPU.
        clean_logits, logits: the attacked model's on x and on ``apply_delta(x, delta)``, ``(n, classes)``.
    """
    change = apply_delta(x, delta).double() - x.double()
    target_label = aimed_or_reached(logits, attempts.source_label, attempts.requested_target)
    return Samples(
        attempts=attempts,
        target_label=target_label,
        success=is_success(clean_logits, logits, attempts.source_label, attempts.requested_target),
        confidence=_probability(logits, target_label),
        linf=LinfBall.size(change).numpy(),
        l2=L2Ball.size(change).numpy(),
        x=x.numpy(),
        delta=delta.numpy(),
        clean_logits=clean_logits,
        logits=logits,
    )


def _probability(logits: NDArray[np.float32], label: NDArray[np.int64]) -> NDArray[np.float64]:
    probs = torch.from_numpy(logits).double().softmax(1).numpy()
    return np.asarray(probs[np.arange(len(label)), label])
