"""Evaluation configuration: the rules for temperature and baseline, and the thresholds β."""

import math
from dataclasses import asdict, dataclass
from typing import Any

from jsdelta_db.config.checks import check
from jsdelta_db.errors import UsageError

DEFAULT_BETAS = (0.01, 0.05, 0.10)  # strict, middling, borderline

TEMPERATURE_ONE, TEMPERATURE_FIT = TEMPERATURES = ("1", "fit")


def check_beta(beta: float) -> float:
    """Return β if it can be a threshold on JSΔ, which has no upper bound.

    Raises:
        UsageError: not in (0, ∞).
    """
    if not (math.isfinite(beta) and beta > 0.0):
        raise UsageError(f"β = {beta:g} is out of range: must be a number above 0, such as 0.01 or 0.10")
    return beta


@dataclass(frozen=True, slots=True)
class EvaluationConfig:
    """How samples are judged: the rules for the softmax temperature and for the baseline.

    ``temperature`` is ``1``, or ``fit`` for one temperature per evaluator, the likeliest on the baseline
    split. The baseline has one rule so far: ρ over all clean pairs of the baseline split.
    """

    temperature: str = TEMPERATURE_ONE
    baseline: str = "clean-pairs"

    def __post_init__(self) -> None:
        check("--temperature", self.temperature, self.temperature in TEMPERATURES, " or ".join(TEMPERATURES))

    def canonical(self) -> dict[str, Any]:
        """Return what an evaluation's ``config_hash`` is made of, beside the attack and the evaluators."""
        return {"kind": "evaluation", **asdict(self)}
