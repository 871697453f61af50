"""Whether bugs sit less firmly than features, and whether samples transfer: what lies behind JSΔ."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from jsdelta_db.config import check_beta
from jsdelta_db.statistics import (
    Estimate,
    FractionIntervals,
    difference_of_means,
    matched_difference,
    ratio_of_means,
)
from jsdelta_db.store.grouping import (
    TOO_FEW,
    Part,
    Table,
    bounds,
    common_norm,
    group_scores,
    join_parts,
    number_images,
    resolve_keys,
)
from jsdelta_db.store.reading import Reader
from jsdelta_db.store.selection import Row, Selection, list_evaluations

STABILITY_KEYS = (
    "beta", "n_bugs", "n_features", "stability_bugs", "stability_features",
    "difference", "difference_low", "difference_high",
    "matched_difference", "matched_difference_low", "matched_difference_high", "sharpness", "too_few",
)  # fmt: skip
TRANSFER_KEYS = (
    "n_success", "transfer_ratio", "transfer_ratio_low", "transfer_ratio_high",
    "n_transferred_any", "transferred_any", "transferred_any_low", "transferred_any_high",
    "n_transferred_all", "transferred_all", "transferred_all_low", "transferred_all_high",
    "n_already", "already", "already_low", "already_high", "too_few",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class StabilityTable:
    """Rows of ``query stability``, and the attacks whose successes were not all measured."""

    table: Table
    unmeasured: tuple[str, ...]


def query_stability(
    reader: Reader,
    betas: Sequence[float],
    selection: Selection = Selection(),  # noqa: B008 frozen
) -> StabilityTable:
    """Return how stable bugs and features are, group by group as in ``query bugs``, for each β.

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


def query_transfer(
    reader: Reader,
    selection: Selection = Selection(),  # noqa: B008 frozen
) -> Table:
    """Return how much of the attacked model's change the evaluators share.

    Groups are those of ``query bugs``, and so are the successes that count: those with a JSΔ.
    """
    evaluations = list_evaluations(reader, selection)
    keys = resolve_keys((), evaluations)
    names = ("js_delta", "js", "js_attacked", "n_at_target", "n_at_target_adv")
    rows = [
        {**facts, **_count_transfer(parts)}
        for facts, parts in group_scores(
            reader, evaluations, keys, names, population=selection.population, successes_only=True
        )
    ]
    return Table(keys, rows, {}, common_norm(evaluations))


def _compare_stability(parts: Sequence[Part], betas: Sequence[float]) -> list[Row]:
    js_delta, stability = join_parts(parts, "js_delta"), join_parts(parts, "stability")
    usable = ~np.isnan(js_delta) & ~np.isnan(stability)
    if not usable.any():
        return []
    js_delta, stability = js_delta[usable], stability[usable]
    confidence, image = join_parts(parts, "confidence")[usable], number_images(parts)[usable]
    sharpness = {evaluation.attacked_id: evaluation.sharpness for evaluation, _ in parts}
    rows = []
    for beta in betas:
        is_bug = js_delta < beta
        n_bugs, n_features = int(is_bug.sum()), int((~is_bug).sum())
        rows.append(
            {
                "beta": beta,
                "n_bugs": n_bugs,
                "n_features": n_features,
                "stability_bugs": _mean(stability[is_bug]),
                "stability_features": _mean(stability[~is_bug]),
                **_cells("difference", difference_of_means(stability, is_bug, image)),
                **_cells("matched_difference", matched_difference(stability, is_bug, confidence, image)),
                # One attacked model in each group, unless several go by one name.
                "sharpness": next(iter(sharpness.values())) if len(sharpness) == 1 else None,
                "too_few": min(n_bugs, n_features) < TOO_FEW,
            }
        )
    return rows


def _count_transfer(parts: Sequence[Part]) -> Row:
    defined = ~np.isnan(join_parts(parts, "js_delta"))
    image = number_images(parts)[defined]
    evaluators = np.concatenate([np.full(len(c["js"]), e.n_evaluators) for e, c in parts])[defined]
    at_target_adv = join_parts(parts, "n_at_target_adv")[defined]
    ratio = ratio_of_means(join_parts(parts, "js")[defined], join_parts(parts, "js_attacked")[defined], image)
    shares = {
        "transferred_any": at_target_adv > 0,
        "transferred_all": at_target_adv == evaluators,
        "already": join_parts(parts, "n_at_target")[defined] > 0,
    }
    row: Row = {"n_success": len(image), **_cells("transfer_ratio", ratio)}
    intervals, everything = FractionIntervals(image), np.ones(len(image), dtype=bool)
    for name, hits in shares.items():
        row[f"n_{name}"] = int(hits.sum())
        row[name] = float(hits.mean()) if len(hits) else None
        row |= bounds(name, intervals.interval(hits, everything))
    return {**row, "too_few": len(image) < TOO_FEW}


def _mean(values: NDArray[np.float64]) -> float | None:
    return float(values.mean()) if len(values) else None


def _cells(name: str, estimate: Estimate | None) -> Row:
    """Return an estimate's three cells."""
    return {
        name: estimate.value if estimate else None,
        f"{name}_low": estimate.low if estimate else None,
        f"{name}_high": estimate.high if estimate else None,
    }
