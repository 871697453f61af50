"""Measures: readings of "did other models notice?", each a number an attempt, small where they did not.

All come from the same divergences. They agree on strong attacks and part on weak ones, so that a conclusion
that holds under one of them alone hangs on the reading.
"""

import numpy as np
from numpy.typing import NDArray

from jsdelta_db.config.measures import JS_DELTA, JS_OF_MEAN, MEASURES, MEDIAN, RELATIVE
from jsdelta_db.queries.judged import Judged
from jsdelta_db.records import SMALLEST_RHO

__all__ = ["MEASURES", "NEEDS", "change_of_attacked", "find_lacking", "measure_values", "values_without"]

MOST_SWAPPED = 12  # evaluators
LEAST_CHANGE = 0.05  # of the attacked model, in its own ρ, that a relative measure divides by
# What each is computed from, beside an attempt's JSΔ; the second one for deletions alone.
NEEDS = {
    JS_DELTA: ((), ("member_js",)),
    JS_OF_MEAN: (("js_of_mean",), ("js_of_mean_without",)),
    MEDIAN: (("member_js",), ("member_js",)),
    RELATIVE: (("js_attacked",), ("member_js", "js_attacked")),
}

Floats = NDArray[np.float64]


def find_lacking(judged: Judged, measure: str) -> str | None:
    """Return what the store lacks for the measure with an evaluator left out; None if it has all."""
    for name in NEEDS[measure][1]:
        if name not in judged.columns:
            return name
    if measure != JS_OF_MEAN:
        counted = ~np.isnan(judged.columns["js_delta"])
        used = np.unique(judged.place[counted])
        if np.isnan(judged.rho.members[used]).any():
            return "baselines of the evaluators"
    return None


def measure_values(judged: Judged, measure: str, without: int | None = None) -> Floats:
    """Return the measure of each attempt, NaN where it has none, ``(n,)``.

    Which attempts have one is decided by the full set of evaluators, also where one is left out.

    Args:
        without: the position of an evaluator who is left out.
    """
    full = _full(judged, measure)
    if without is None:
        return full
    return np.where(np.isnan(full), np.nan, values_without(judged, measure, without))


def change_of_attacked(judged: Judged) -> Floats:
    """Return the attacked model's own change, in its ρ; NaN without a usable baseline, ``(n,)``."""
    change: Floats = judged.columns["js_attacked"] / judged.rho.attacked[judged.place]
    return change


def _full(judged: Judged, measure: str) -> Floats:
    js_delta: Floats = judged.columns["js_delta"]
    if measure == JS_DELTA:
        return js_delta
    values: Floats
    if measure == JS_OF_MEAN:
        values = _ratio(judged.columns["js_of_mean"], judged.rho.of_mean[judged.place])
    elif measure == MEDIAN:
        values = _median(judged, None)
    else:
        return _relative(js_delta, judged)
    values[np.isnan(js_delta)] = np.nan
    return values


def values_without(judged: Judged, measure: str, k: int) -> Floats:
    """Return the measure with an evaluator left out, of attempts that have one, ``(n,)``."""
    if measure == MEDIAN:
        return _median(judged, k)
    if measure == JS_OF_MEAN:
        of_others, of_all = judged.rho.of_mean_without[:, k], judged.rho.of_mean
        rho = np.where(np.isnan(of_others), of_all, of_others)  # one from before: that of all stands for it
        return _ratio(judged.columns["js_of_mean_without"][:, k], rho[judged.place])
    js, rho = judged.columns["member_js"], judged.rho.members
    others = [m for m in range(js.shape[1]) if m != k]
    total = np.zeros(len(js))
    for m in others:  # column by column: rows of four are slow to add up
        total += js[:, m]
    values = _ratio(total, rho[:, others].sum(axis=1)[judged.place])
    return _relative(values, judged) if measure == RELATIVE else values


def _median(judged: Judged, k: int | None) -> Floats:
    """Return the median of the evaluators' own ratios, NaN where one of them has too small a baseline."""
    others = [m for m in range(judged.evaluation.n_evaluators) if m != k]
    rho = np.where(judged.rho.members >= SMALLEST_RHO, judged.rho.members, np.nan)[:, others]
    js, place = judged.columns["member_js"], judged.place
    values = _middle([js[:, m] / rho[:, row][place] for row, m in enumerate(others)])
    is_small = np.asarray(np.isnan(rho).any(axis=1))
    values[is_small[place]] = np.nan
    return values


def _middle(columns: list[Floats]) -> Floats:
    """Return the median of each row of some columns; of an even number the mean of the middle two.

    NumPy's sorts row by row, ten times as long as swapping columns takes for as few as the evaluators are.
    """
    n = len(columns)
    if n > MOST_SWAPPED:
        of_rows: Floats = np.median(columns, axis=0)
        return of_rows
    ordered = list(columns)
    for last in range(n - 1, 0, -1):
        for left in range(last):
            low, high = ordered[left], ordered[left + 1]
            ordered[left], ordered[left + 1] = np.minimum(low, high), np.maximum(low, high)
    middle: Floats = (ordered[(n - 1) // 2] + ordered[n // 2]) / 2
    return middle


def _relative(values: Floats, judged: Judged) -> Floats:
    """Return values in units of the attacked model's change, NaN where it hardly changed."""
    change = change_of_attacked(judged)
    return _ratio(values, np.where(change >= LEAST_CHANGE, change, np.nan))


def _ratio(above: Floats, below: Floats) -> Floats:
    with np.errstate(divide="ignore", invalid="ignore"):
        values: Floats = np.where(below > 0, above / below, np.nan)
    return values
