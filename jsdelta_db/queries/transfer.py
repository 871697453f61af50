"""Transfer: how much of the attacked model's change the evaluators share."""

from collections.abc import Sequence

import numpy as np

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
from jsdelta_db.queries.statistics import ratio_of_means, shares_of_rows
from jsdelta_db.queries.statistics.fractions import TOO_FEW_IMAGES
from jsdelta_db.store.reading import Reader

TRANSFER_KEYS = (
    "n_success", "transfer_ratio", "transfer_ratio_low", "transfer_ratio_high",
    "n_transferred_any", "transferred_any", "transferred_any_low", "transferred_any_high",
    "n_transferred_all", "transferred_all", "transferred_all_low", "transferred_all_high",
    "n_already", "already", "already_low", "already_high", "too_few",
)  # fmt: skip


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


def _count_transfer(parts: Sequence[Part]) -> Row:
    defined = ~np.isnan(join_parts(parts, "js_delta"))
    image = number_images(parts)[defined]
    evaluators = np.concatenate([np.full(len(c["js"]), e.n_evaluators) for e, c in parts])[defined]
    at_target_adv = join_parts(parts, "n_at_target_adv")[defined]
    ratio = ratio_of_means(join_parts(parts, "js")[defined], join_parts(parts, "js_attacked")[defined], image)
    hits = {
        "transferred_any": at_target_adv > 0,
        "transferred_all": at_target_adv == evaluators,
        "already": join_parts(parts, "n_at_target")[defined] > 0,
    }
    row: Row = {"n_success": len(image), **estimate_cells("transfer_ratio", ratio)}
    for name, share in zip(hits, shares_of_rows(list(hits.values()), image), strict=True):
        row |= {f"n_{name}": int(hits[name].sum()), **estimate_cells(name, share)}
    return {**row, "too_few": len(np.unique(image)) < TOO_FEW_IMAGES}
