"""Measures: readings of "did other models notice?", each a number an attempt, small where they did not.

All come from the same divergences. They agree on strong attacks and part on weak ones, so that a conclusion
that holds under one of them alone hangs on the reading.
"""

import numpy as np
from numpy.typing import NDArray

from jsdelta_db.config.checks import check_choice
from jsdelta_db.queries.judged import Judged
from jsdelta_db.records import SMALLEST_RHO

JS_DELTA = "js-delta"
MEASURES = (JS_DELTA, "js-of-mean", "median", "relative")
LEAST_CHANGE = 0.05  # of the attacked model, in its own ρ, that a relative measure divides by
# What each is computed from, beside an attempt's JSΔ; the second one for deletions alone.
NEEDS = {
    JS_DELTA: ((), ("member_js",)),
    "js-of-mean": (("js_of_mean",), ("js_of_mean_without",)),
    "median": (("member_js",), ("member_js",)),
    "relative": (("js_attacked",), ("member_js", "js_attacked")),
}

Floats = NDArray[np.float64]


def check_measure(measure: str) -> None:
    """Check a measure's name.

    Raises:
        UnknownNameError: lists the measures.
    """
    check_choice("measure", measure, MEASURES)


def has_deletions(judged: Judged, measure: str) -> bool:
    """Tell whether the measure can be computed with an evaluator left out.

    It cannot where the store lacks the evaluators' own divergences or a baseline of theirs, and not of a
    single evaluator, without whom nobody judges.
    """
    if judged.evaluation.n_evaluators < 2 or any(name not in judged.columns for name in NEEDS[measure][1]):
        return False
    if measure == "js-of-mean":
        return True
    counted = ~np.isnan(judged.columns["js_delta"])
    used = np.unique(judged.place[counted])
    return not bool(np.isnan(judged.rho.members[used]).any())


def measure_values(judged: Judged, measure: str, without: int | None = None) -> Floats:
    """Return the measure of each attempt, NaN where it has none, ``(n,)``.

    Which attempts have one is decided by the full set of evaluators, also where one is left out.

    Args:
        without: the position of an evaluator who is left out.
    """
    if without is None:
        return _full(judged, measure)
    values = _without(judged, measure, without)
    values[np.isnan(_full(judged, measure))] = np.nan
    return values


def change_of_attacked(judged: Judged) -> Floats:
    """Return the attacked model's own change, in its ρ; NaN without a usable baseline, ``(n,)``."""
    change: Floats = judged.columns["js_attacked"] / judged.rho.attacked[judged.place]
    return change


def _full(judged: Judged, measure: str) -> Floats:
    js_delta: Floats = judged.columns["js_delta"]
    if measure == JS_DELTA:
        return js_delta
    values: Floats
    if measure == "js-of-mean":
        values = _ratio(judged.columns["js_of_mean"], judged.rho.of_mean[judged.place])
    elif measure == "median":
        values = _median(judged, None)
    else:
        return _relative(js_delta, judged)
    values[np.isnan(js_delta)] = np.nan
    return values


def _without(judged: Judged, measure: str, k: int) -> Floats:
    if measure == "median":
        return _median(judged, k)
    if measure == "js-of-mean":
        # The baseline of the mean outputs without one of them is not stored: that of all stands for it.
        return _ratio(judged.columns["js_of_mean_without"][:, k], judged.rho.of_mean[judged.place])
    js, rho = judged.columns["member_js"], judged.rho.members
    others = [m for m in range(js.shape[1]) if m != k]
    total = js[:, others].sum(axis=1, dtype=np.float64)
    values = _ratio(total, rho[:, others].sum(axis=1)[judged.place])
    return _relative(values, judged) if measure == "relative" else values


def _median(judged: Judged, k: int | None) -> Floats:
    """Return the median of the evaluators' own ratios, NaN where one of them has too small a baseline."""
    others = [m for m in range(judged.evaluation.n_evaluators) if m != k]
    rho = np.where(judged.rho.members >= SMALLEST_RHO, judged.rho.members, np.nan)[:, others]
    values: Floats = np.median(judged.columns["member_js"][:, others] / rho[judged.place], axis=1)
    return values


def _relative(values: Floats, judged: Judged) -> Floats:
    """Return values in units of the attacked model's change, NaN where it hardly changed."""
    change = change_of_attacked(judged)
    return _ratio(values, np.where(change >= LEAST_CHANGE, change, np.nan))


def _ratio(above: Floats, below: Floats) -> Floats:
    with np.errstate(divide="ignore", invalid="ignore"):
        values: Floats = np.where(below > 0, above / below, np.nan)
    return values
