"""Agreement of a set of evaluators on clean images: Assumption 3.2 of arXiv 2601.00577."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from jsdelta_db.compute.metrics.divergence import log_probs, mean_js
from jsdelta_db.compute.metrics.draws import draw_images
from jsdelta_db.config.controls import ACCURACY_SPREAD, AGREEMENT_JS, AGREEMENT_LABEL, EVALUATOR_ACCURACY
from jsdelta_db.config.evaluation import LARGEST_SPREAD, LOWEST_AGREEMENT, lowest_accuracy
from jsdelta_db.records import Control


@dataclass(frozen=True, slots=True)
class Agreement:
    """Similarity of the evaluators' outputs on clean images.

    Attributes:
        accuracies: of each evaluator.
        needed: the accuracy below which one has learned nothing.
        same_label: share of images and pairs of evaluators with the same predicted label, among those that
            have learned something; 1 for a single one, None if there is none.
        js: mean divergence between two evaluators' outputs, in bits; 0 if alone.
    """

    accuracies: tuple[float, ...]
    needed: float
    same_label: float | None
    js: float

    @property
    def accuracy_spread(self) -> float:
        """Largest minus smallest accuracy."""
        return max(self.accuracies) - min(self.accuracies)

    def as_controls(self) -> list[Control]:
        """Return the values as controls; for the divergence no threshold is known."""
        return [
            Control(EVALUATOR_ACCURACY, min(self.accuracies), low=self.needed),
            Control(AGREEMENT_LABEL, self.same_label, low=LOWEST_AGREEMENT),
            Control(AGREEMENT_JS, self.js, has_verdict=False),
            Control(ACCURACY_SPREAD, self.accuracy_spread, high=LARGEST_SPREAD),
        ]


def clean_outputs(logits: NDArray[np.float32]) -> Tensor:
    """Return the log-probabilities by which models are compared.

    Those of all clean images; with many classes of a draw.

    Args:
        logits: a model's on the baseline split ``(n, classes)``.
    """
    return log_probs(logits[draw_images(*logits.shape)])


def measure_agreement(member_logits: Sequence[NDArray[np.float32]], labels: NDArray[np.int64]) -> Agreement:
    """Compare members on the same clean images.

    Args:
        member_logits: each member's logits ``(n, classes)``.
        labels: ``(n,)``.
    """
    predicted = [logits.argmax(1) for logits in member_logits]
    accuracies = tuple(float((each == labels).mean()) for each in predicted)
    needed = lowest_accuracy(member_logits[0].shape[1])
    able = [each for each, accuracy in zip(predicted, accuracies, strict=True) if accuracy >= needed]
    same_label = [float((one == other).mean()) for one, other in combinations(able, 2)]
    js = [mean_js(one, other) for one, other in combinations(map(clean_outputs, member_logits), 2)]
    return Agreement(
        accuracies=accuracies,
        needed=needed,
        same_label=float(np.mean(same_label)) if same_label else 1.0 if able else None,
        js=float(np.mean(js)) if js else 0.0,
    )
