"""Agreement of a set of evaluators on clean images: Assumption 3.2 of arXiv 2601.00577."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from jsdelta_db.compute.metrics.divergence import js_divergence, log_probs
from jsdelta_db.config.controls import AGREEMENT
from jsdelta_db.records import Control


@dataclass(frozen=True, slots=True)
class Agreement:
    """Similarity of the evaluators' outputs on clean images.

    Attributes:
        same_label: share of images and pairs of evaluators with the same predicted label; 1 if alone.
        js: mean divergence between two evaluators' outputs, in bits; 0 if alone.
        accuracy_spread: largest minus smallest accuracy.
    """

    same_label: float
    js: float
    accuracy_spread: float

    def as_controls(self) -> list[Control]:
        """Return the values as controls without a verdict: no threshold is known."""
        values = (self.same_label, self.js, self.accuracy_spread)
        return [
            Control(name, value, has_verdict=False) for name, value in zip(AGREEMENT, values, strict=True)
        ]


def measure_agreement(member_logits: Sequence[NDArray[np.float32]], labels: NDArray[np.int64]) -> Agreement:
    """Compare members on the same clean images.

    Args:
        member_logits: each member's logits ``(n, classes)``.
        labels: ``(n,)``.
    """
    predicted = [logits.argmax(1) for logits in member_logits]
    log_p = [log_probs(logits) for logits in member_logits]
    pairs = list(combinations(range(len(predicted)), 2))
    accuracies = [float((each == labels).mean()) for each in predicted]
    same_label = [(predicted[i] == predicted[j]).mean() for i, j in pairs]
    return Agreement(
        same_label=float(np.mean(same_label)) if pairs else 1.0,
        js=float(np.mean([js_divergence(log_p[i], log_p[j]).mean() for i, j in pairs])) if pairs else 0.0,
        accuracy_spread=max(accuracies) - min(accuracies),
    )
