"""Deletions: bugs and attempts of a group without each of its models in turn.

Without a model its attacks are dropped, and it is dropped from every set of evaluators at once. Which
attempts count is decided by the full sets. Evaluations are counted one by one; a group adds up what each
of them loses.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from jsdelta_db.queries.judged import Judged
from jsdelta_db.queries.measures import find_lacking, values_without
from jsdelta_db.queries.selection import EvaluationInfo, ModelInfo
from jsdelta_db.queries.statistics.models import ATTACKS, BOTH, JUDGES, OfModels, Unit, spread_over_models

Floats = NDArray[np.float64]


class Counts(NamedTuple):
    """Counts of one evaluation in one group.

    Attributes:
        success, attempted: attempts that have the measure.
        bugs: successes below each β, ``(betas,)``.
        without: the same without each evaluator, ``(evaluators, betas)``; NaN where nobody is left.
        lacking: what the store lacks to count without an evaluator; None if it has all.
    """

    success: float
    attempted: float
    bugs: Floats
    without: Floats
    lacking: str | None = None


class Deletions:
    """Counts of a group, and how they change without each model.

    Attributes:
        lacking: what the store lacks to count without an evaluator; None if it has all.
    """

    def __init__(self, n_betas: int) -> None:
        self.lacking: str | None = None
        self._n_betas = n_betas
        self._total = np.zeros(2 + n_betas)  # successes, attempts, bugs
        self._change: dict[str, Floats] = {}  # by weights: of the total
        self._models: dict[str, ModelInfo] = {}
        self._attacked: set[str] = set()
        self._judging: set[str] = set()

    def add(self, evaluation: EvaluationInfo, counts: Counts) -> None:
        """Add the counts of an evaluation; one without an attempt here adds no model either."""
        if not counts.attempted:
            return
        own = np.array([counts.success, counts.attempted, *counts.bugs])
        self._total += own
        self.lacking = self.lacking or counts.lacking
        self._attacked.add(evaluation.attacked.sha256)
        self._add_change(evaluation.attacked, -own)
        change = np.zeros((evaluation.n_evaluators, len(own)))
        change[:, 2:] = counts.without - counts.bugs
        for model, of_model in zip(evaluation.evaluators, change, strict=True):
            self._judging.add(model.sha256)
            self._add_change(model, of_model)

    def of_fractions(self) -> list[OfModels]:
        """Return what the draw of the models adds to the variance of bugs among successes, for each β."""
        return self._spread(0)

    def of_rates(self) -> list[OfModels]:
        """Return what the draw of the models adds to the variance of bugs among attempts, for each β."""
        return self._spread(1)

    def _add_change(self, model: ModelInfo, change: Floats) -> None:
        self._models[model.sha256] = model
        self._change[model.sha256] = self._change.get(model.sha256, 0) + change

    def _spread(self, trials: int) -> list[OfModels]:
        units = [
            Unit(sha256, model.recipe, self._role(sha256), model.method)
            for sha256, model in self._models.items()
        ]
        if self.lacking:
            why = f"over images alone: the store lacks {self.lacking}; jsdelta doctor --repair adds it"
            return [OfModels(len(units), warnings=(why,))] * self._n_betas
        if not units:
            return [OfModels(0)] * self._n_betas
        left = self._total + np.array([self._change[unit.sha256] for unit in units])
        with np.errstate(divide="ignore", invalid="ignore"):
            shares = np.where(left[:, [trials]] > 0, left[:, 2:] / left[:, [trials]], np.nan)
        return [spread_over_models(units, of_beta) for of_beta in shares.T]

    def _role(self, sha256: str) -> str:
        if sha256 not in self._judging:
            return ATTACKS
        return BOTH if sha256 in self._attacked else JUDGES


def count_without(
    successes: Judged,
    measure: str,
    betas: Sequence[float],
    cells: NDArray[np.integer] | None = None,
    n_cells: int = 1,
) -> tuple[NDArray[np.float64], str | None]:
    """Count the bugs without each evaluator in turn.

    Args:
        successes: those that have the measure.
        cells: the place of each success's group among ``n_cells``; None for one group of all.

    Returns:
        Counts ``(evaluators, betas, cells)``, NaN of a single evaluator, and what the store lacks for them.
    """
    n = successes.evaluation.n_evaluators
    counts = np.zeros((n, len(betas), n_cells))
    if not successes.n:
        return counts, None
    if n < 2:
        return np.full_like(counts, np.nan), None
    lacking = find_lacking(successes, measure)
    if lacking:
        return np.full_like(counts, np.nan), lacking
    for k in range(n):
        values = values_without(successes, measure, k)
        for row, beta in enumerate(betas):
            below = values < beta
            if cells is None:
                counts[k, row, 0] = np.count_nonzero(below)
            else:
                counts[k, row] = np.bincount(cells[below], minlength=n_cells)
    return counts, None
