"""Stability: how firmly bugs and features hold under noise."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from jsdelta_db.config.evaluation import check_beta
from jsdelta_db.queries.grouping import (
    Part,
    Table,
    common_norm,
    estimate_cells,
    group_scores,
    join_parts,
    number_images,
    resolve_keys,
)
from jsdelta_db.queries.selection import Row, Selection, list_evaluations
from jsdelta_db.queries.statistics import difference_of_means, matched_difference, shares_of_rows
from jsdelta_db.store.reading import Reader

STABILITY_KEYS = (
    "beta", "n_bugs", "n_features", "stability_bugs", "stability_features",
    "difference", "difference_low", "difference_high",
    "matched_difference", "matched_difference_low", "matched_difference_high", "sharpness", "too_few",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class StabilityTable:
    """Rows of ``query stability``, and attacks of which not every success was measured."""

    table: Table
    unmeasured: tuple[str, ...]


def query_stability(
    reader: Reader,
    betas: Sequence[float],
    selection: Selection = Selection(),  # noqa: B008 frozen
) -> StabilityTable:
    """Return the stability of bugs and features, for each group of ``query bugs`` and each β.

    Only successes with a JSΔ and a stability count; a feature is one with JSΔ from β on. Groups without
    any are left out.

    Raises:
        UsageError: a β outside (0, ∞).
    """
    for beta in betas:
        check_beta(beta)
    evaluations = list_evaluations(reader, selection)
    keys = resolve_keys((), evaluations)
    names = ("js_delta", "stability", "confidence")
    rows: list[Row] = []
    unmeasured: dict[str, None] = {}
    for facts, parts in group_scores(
        reader, evaluations, keys, names, population=selection.population, successes_only=True
    ):
        for evaluation, columns in parts:
            if np.isnan(columns["stability"]).any():
                unmeasured[evaluation.attack_uid] = None
        rows += [{**facts, **counts} for counts in _compare_stability(parts, betas)]
    return StabilityTable(Table(keys, rows, {}, common_norm(evaluations)), tuple(unmeasured))


def _compare_stability(parts: Sequence[Part], betas: Sequence[float]) -> list[Row]:
    js_delta, stability = join_parts(parts, "js_delta"), join_parts(parts, "stability")
    usable = ~np.isnan(js_delta) & ~np.isnan(stability)
    if not usable.any():
        return []
    js_delta, stability = js_delta[usable], stability[usable]
    confidence, image = join_parts(parts, "confidence")[usable], number_images(parts)[usable]
    sharpness = {evaluation.attacked.id: evaluation.sharpness for evaluation, _ in parts}
    rows = []
    for beta in betas:
        is_bug = js_delta < beta
        (share,) = shares_of_rows([is_bug], image)
        n_bugs, n_features = int(is_bug.sum()), int((~is_bug).sum())
        rows.append(
            {
                "beta": beta,
                "n_bugs": n_bugs,
                "n_features": n_features,
                "stability_bugs": _mean(stability[is_bug]),
                "stability_features": _mean(stability[~is_bug]),
                **estimate_cells("difference", difference_of_means(stability, is_bug, image)),
                **estimate_cells(
                    "matched_difference", matched_difference(stability, is_bug, confidence, image)
                ),
                # One attacked model in each group, unless several go by one name.
                "sharpness": next(iter(sharpness.values())) if len(sharpness) == 1 else None,
                "too_few": share.is_of_too_few,
            }
        )
    return rows


def _mean(values: NDArray[np.float64]) -> float | None:
    return float(values.mean()) if len(values) else None
