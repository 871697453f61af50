"""What is asked of a store first: how many successes were bugs. Read-only, and free of torch."""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from jsdelta_db.config import check_beta
from jsdelta_db.statistics import FractionIntervals
from jsdelta_db.store.grouping import (
    LABEL_KEYS,
    TOO_FEW,
    Part,
    Table,
    bounds,
    common_norm,
    find_pooled,
    group_scores,
    join_parts,
    load_scores,
    number_images,
    resolve_keys,
)
from jsdelta_db.store.reading import Reader
from jsdelta_db.store.selection import Row, Selection, list_evaluations


def query_bugs(
    reader: Reader,
    betas: Sequence[float],
    by: Sequence[str] = (),
    selection: Selection = Selection(),  # noqa: B008 frozen
) -> Table:
    """Return the share of bugs among successful attacks, for each group and each β.

    Args:
        betas: thresholds on JSΔ; a sample is a bug strictly below.
        by: what to group by (see ``BY_CHOICES``); empty for one row per dataset, ensemble, attacked
            model, norm and ε, and whatever else differs among the selected attacks.

    Raises:
        UsageError: a β outside (0, ∞), or an unknown grouping.
    """
    for beta in betas:
        check_beta(beta)
    evaluations = list_evaluations(reader, selection)
    keys = resolve_keys(by, evaluations)
    groups = group_scores(reader, evaluations, keys, ("success", "js_delta"), population=selection.population)
    by_label = bool(set(keys) & set(LABEL_KEYS))
    rows = [
        {**facts, **counts}
        for facts, parts in groups
        for counts in _count_bugs(parts, betas, by_label=by_label)
    ]
    return Table(keys, rows, find_pooled(evaluations, keys) if by else {}, common_norm(evaluations))


def summary_metrics(rows: Iterable[Row]) -> dict[int, dict[str, float | None]]:
    """Return what a tracker logs of the rows of ``query_bugs``: metrics by step = round(255·ε)."""
    by_step: dict[int, dict[str, float | None]] = {}
    for row in rows:
        metrics = by_step.setdefault(round(row["eps"] * 255), {})
        attempted = row["n_attempted"]
        metrics["success_rate"] = row["n_success"] / attempted if attempted else None
        metrics[f"bug_fraction_beta_{row['beta']:g}"] = row["bug_fraction"]
    return by_step


def js_delta_by_eps(
    reader: Reader,
    selection: Selection = Selection(),  # noqa: B008 frozen
) -> dict[tuple[str, float], NDArray[np.float64]]:
    """Return the JSΔ of all successful samples that have one, by norm and ε, ascending."""
    found: dict[tuple[str, float], list[NDArray[np.float64]]] = {}
    for evaluation in list_evaluations(reader, selection):
        columns = load_scores(
            reader, evaluation, ("js_delta",), population=selection.population, successes_only=True
        )
        values = columns["js_delta"]
        key = (evaluation.facts["norm"], evaluation.facts["eps"])
        found.setdefault(key, []).append(values[~np.isnan(values)])
    return {key: np.concatenate(found[key]) for key in sorted(found)}


def _count_bugs(parts: Sequence[Part], betas: Sequence[float], *, by_label: bool) -> Iterator[Row]:
    """Count one group, for each β."""
    js_delta = join_parts(parts, "js_delta")
    defined = ~np.isnan(js_delta)
    success = join_parts(parts, "success")[defined] == 1
    intervals = FractionIntervals(number_images(parts)[defined])
    attempted = np.ones_like(success)
    skipped = {evaluation.id: evaluation.n_skipped for evaluation, _ in parts}
    for beta in betas:
        bugs = success & (js_delta[defined] < beta)
        of_success, of_attempts = intervals.interval(bugs, success), intervals.interval(bugs, attempted)
        n_bugs, n_success, n_attempted = int(bugs.sum()), int(success.sum()), len(success)
        yield {
            "beta": beta,
            "n_attempted": n_attempted,
            "n_skipped": None if by_label else sum(skipped.values()),
            "n_success": n_success,
            "n_no_baseline": int((~defined).sum()),
            "n_bugs": n_bugs,
            "bug_fraction": n_bugs / n_success if n_success else None,
            **bounds("bug_fraction", of_success),
            "bug_rate": n_bugs / n_attempted if n_attempted else None,
            **bounds("bug_rate", of_attempts),
            "interval": " / ".join(dict.fromkeys(i.kind for i in (of_success, of_attempts) if i)) or None,
            "too_few": n_success < TOO_FEW,
        }
