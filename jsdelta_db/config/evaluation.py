"""Evaluation configuration: rules for temperature and baseline, and the thresholds β."""

import math
from dataclasses import asdict, dataclass
from typing import Any

from jsdelta_db.config.checks import check_choice
from jsdelta_db.errors import UsageError

DEFAULT_BETA = 0.10
DEFAULT_BETAS = (0.01, 0.05, DEFAULT_BETA)  # strict, middling, borderline

TEMPERATURE_ONE, TEMPERATURE_FIT = TEMPERATURES = ("1", "fit")


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
    split. The baseline has one rule so far: ρ over all clean pairs of the baseline split.
    """

    temperature: str = TEMPERATURE_ONE
    baseline: str = "clean-pairs"

    def __post_init__(self) -> None:
        check_choice("--temperature", self.temperature, TEMPERATURES)

    def canonical(self) -> dict[str, Any]:
        """Return the content of an evaluation's ``config_hash``, without attack and evaluators."""
        return {"kind": "evaluation", **asdict(self)}
