"""Evaluation configuration: rules for temperature and baseline, and the thresholds β."""

import math
from dataclasses import asdict, dataclass
from typing import Any

from jsdelta_db.config.checks import check_choice
from jsdelta_db.errors import UsageError

DEFAULT_BETA = 0.10
DEFAULT_BETAS = (0.01, 0.05, DEFAULT_BETA)  # strict, middling, borderline

TEMPERATURE_ONE, TEMPERATURE_FIT = TEMPERATURES = ("1", "fit")
USUAL_TEMPERATURES = (0.5, 2.0)  # fitted ones; beyond them outputs say far more or less than they know

# Beyond them what grows with the square of the classes, or with images times classes, is drawn or left out.
MANY_CLASSES = 100

# Of the evaluators on clean images: beyond these their verdict fails.
LOWEST_AGREEMENT = 0.6  # share of equal labels
LARGEST_SPREAD = 0.20  # of accuracies


def lowest_accuracy(n_classes: int) -> float:
    """Return the accuracy below which a network has learned nothing, as far as one can tell."""
    return min(2 / n_classes, 1 / n_classes + 0.10)


def check_beta(beta: float) -> float:
    """Return β if it is a threshold on JSΔ, which has no upper bound.

    Raises:
        UsageError: not in (0, ∞).
    """
    if not (math.isfinite(beta) and beta > 0.0):
        raise UsageError(f"β = {beta:g} is out of range: must be a number above 0, such as 0.01 or 0.10")
    return beta


@dataclass(frozen=True, slots=True)
class EvaluationConfig:
    """The rules of an evaluation: for the softmax temperature and for the baseline.

    ``temperature`` is ``1``, or ``fit`` for one temperature per evaluator, the likeliest on the baseline
    split. The baseline has one rule so far: ρ over all clean pairs of the baseline split, or, beyond
    ``MANY_CLASSES`` classes, over a keyed draw of them.
    """

    temperature: str = TEMPERATURE_ONE
    baseline: str = "clean-pairs"

    def __post_init__(self) -> None:
        check_choice("--temperature", self.temperature, TEMPERATURES)

    def canonical(self) -> dict[str, Any]:
        """Return the content of an evaluation's ``config_hash``, without attack and evaluators."""
        return {"kind": "evaluation", **asdict(self)}
