"""Outcomes: what evaluators make of a success: unfooled, fooled to the same label, or to another."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from jsdelta_db.config.evaluation import DEFAULT_BETA, check_beta
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
from jsdelta_db.queries.pooling import count_once, find_pooled
from jsdelta_db.queries.selection import Row, Selection, list_evaluations
from jsdelta_db.queries.statistics.fractions import TOO_FEW_IMAGES, shares
from jsdelta_db.store.reading import Reader

ALL, BUGS, NON_BUGS = SAMPLES = ("all", "bugs", "non-bugs")
OUTCOMES = ("unfooled", "same_mistake", "different_mistake")
OUTCOME_KEYS = (
    "beta", "samples", "n_success", "n_opinions", "n_unknown",
    *(f"{name}{end}" for name in OUTCOMES for end in ("", "_low", "_high")), "n_images", "too_few",
)  # fmt: skip


def query_outcomes(
    reader: Reader,
    beta: float = DEFAULT_BETA,
    by: Sequence[str] = (),
    selection: Selection = Selection(),  # noqa: B008 frozen
) -> Table:
    """Return the shares of evaluators' opinions on successes, for all of them, for bugs and for non-bugs.

    An opinion is one evaluator's label for one sample. Samples of which it is not stored how many evaluators
    are still right are counted in ``n_unknown`` alone.

    Raises:
        UsageError: a β outside (0, ∞), or an unknown grouping.
    """
    check_beta(beta)
    evaluations = list_evaluations(reader, selection)
    asked = resolve_keys(by, evaluations)
    keys, counted = count_once(evaluations, asked, selection.named_facts)
    names = ("js_delta", "n_right_adv", "n_at_target_adv")
    rows = [
        {**facts, "beta": beta, **row}
        for facts, parts in group_scores(
            reader, counted, keys, names, population=selection.population, successes_only=True
        )
        for row in _count(parts, beta)
    ]
    return Table(
        keys, rows, find_pooled(counted, keys), common_norm(counted), separated=keys[len(asked) :],
        n_left_out=len(evaluations) - len(counted),
    )  # fmt: skip


def _count(parts: Sequence[Part], beta: float) -> Iterator[Row]:
    js_delta, right = join_parts(parts, "js_delta"), join_parts(parts, "n_right_adv")
    same, image = join_parts(parts, "n_at_target_adv"), number_images(parts)
    evaluators = np.concatenate([np.full(len(c["js_delta"]), e.n_evaluators) for e, c in parts])
    defined = ~np.isnan(js_delta)
    below = defined & (js_delta < beta)
    for samples, chosen in zip(SAMPLES, (defined, below, defined & ~below), strict=True):
        known = chosen & ~np.isnan(right)
        columns = [right, same, evaluators - right - same, evaluators.astype(np.float64)]
        sums = _add_up(image[known], [column[known] for column in columns])
        trials = sums[-1]
        found = shares(sums[:-1], trials)
        cells = [estimate_cells(name, share) for name, share in zip(OUTCOMES, found, strict=True)]
        n_images = int(np.count_nonzero(trials))
        yield {
            "samples": samples,
            "n_success": int(known.sum()),
            "n_opinions": int(trials.sum()),
            "n_unknown": int((chosen & ~known).sum()),
            **{key: value for each in cells for key, value in each.items()},
            "n_images": n_images,
            "too_few": n_images < TOO_FEW_IMAGES,
        }


def _add_up(image: NDArray[np.int64], columns: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Return the columns' sums by image ``(columns, images)``."""
    images, place = np.unique(image, return_inverse=True)
    return np.stack([np.bincount(place, column, len(images)) for column in columns])
