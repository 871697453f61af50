"""Measured attempts: counted by image under any measure, and without each model in turn."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from jsdelta_db.config.measures import OVER_MODELS, RELATIVE, Measuring
from jsdelta_db.errors import StoreError
from jsdelta_db.queries.deletions import Counts, count_without
from jsdelta_db.queries.grouping import LABEL_KEYS
from jsdelta_db.queries.judged import Judged, read_judged
from jsdelta_db.queries.measures import NEEDS, change_of_attacked, measure_values
from jsdelta_db.queries.selection import ALL_CORRECT, EvaluationInfo, Selection
from jsdelta_db.queries.tally import BUGS, FAILURE, NO_RELATIVE, SUCCESS, UNDEFINED, Piece
from jsdelta_db.store.reading import Reader

Mask = NDArray[np.bool_]


class Measured(NamedTuple):
    """The attempts of one evaluation under a measure.

    Attributes:
        rows: the pieces of each row of the counts (see ``tally.py``).
        counts: by the names of the labels, in the order of the keys; empty where intervals are over images.
    """

    evaluation: EvaluationInfo
    rows: list[list[Piece]]
    counts: Mapping[tuple[str, ...], Counts]


def read_measured(
    reader: Reader,
    evaluations: Sequence[EvaluationInfo],
    betas: Sequence[float],
    selection: Selection,
    measuring: Measuring,
    label_keys: Sequence[str] = (),
) -> Iterator[Measured]:
    """Yield each evaluation's attempts, in order.

    Raises:
        StoreError: the store lacks what the measure needs.
    """
    for judged in read_judged(reader, evaluations, list_columns(selection, measuring)):
        selected, values = measure_selected(judged, selection, measuring.measure)
        yield Measured(
            judged.evaluation,
            _gather(selected, values, betas, measuring.measure),
            _count(selected, values, betas, measuring.measure, label_keys)
            if measuring.interval == OVER_MODELS
            else {},
        )


def list_columns(selection: Selection, measuring: Measuring) -> Collection[str]:
    """Return the columns that a question needs beside those that are always there."""
    full, without = NEEDS[measuring.measure]
    names = [*full, *(without if measuring.interval == OVER_MODELS else ())]
    if selection.population == ALL_CORRECT:
        names.append("n_right")
    if selection.min_change is not None:
        names.append("js_attacked")
    if selection.min_confidence is not None:
        names.append("confidence")
    return tuple(dict.fromkeys(names))


def measure_selected(
    judged: Judged, selection: Selection, measure: str
) -> tuple[Judged, NDArray[np.float64]]:
    """Return the attempts that a selection leaves of an evaluation, and the measure of each.

    Raises:
        StoreError: the store lacks what the measure needs.
    """
    for name in NEEDS[measure][0]:
        if name not in judged.columns:
            raise StoreError(
                f"evaluation {judged.evaluation.uid[:8]} lacks {name}, which --measure {measure} needs; "
                "run jsdelta doctor --repair"
            )
    wanted: Mask = np.ones(judged.n, dtype=bool)
    if selection.population == ALL_CORRECT:
        wanted &= judged.columns["n_right"] == judged.evaluation.n_evaluators
    if selection.min_confidence is not None:
        wanted &= judged.columns["confidence"] >= selection.min_confidence
    if selection.min_change is not None:
        wanted &= change_of_attacked(judged) >= selection.min_change  # False without a baseline
    selected = judged if wanted.all() else judged.pick(wanted)
    return selected, measure_values(selected, measure)


def _gather(
    judged: Judged, values: NDArray[np.float64], betas: Sequence[float], measure: str
) -> list[list[Piece]]:
    """Return the images and label pairs of each row of the counts."""
    index = _narrow(judged.columns["sample_index"])
    pair = _narrow(_label_pair(judged))
    success, defined = judged.columns["success"], ~np.isnan(values)
    rows: dict[int, Mask] = {
        SUCCESS: defined & success,
        FAILURE: defined & ~success,
        UNDEFINED: ~defined,
        NO_RELATIVE: np.zeros_like(success),
    }
    if measure == RELATIVE:
        rows[UNDEFINED] = np.isnan(judged.columns["js_delta"])
        rows[NO_RELATIVE] = ~defined & ~rows[UNDEFINED]
    for row, beta in enumerate(betas, BUGS):
        rows[row] = success & (values < beta)  # False of NaN
    return [[(index[rows[row]], pair[rows[row]])] for row in sorted(rows)]


def _count(
    judged: Judged,
    values: NDArray[np.float64],
    betas: Sequence[float],
    measure: str,
    label_keys: Sequence[str],
) -> dict[tuple[str, ...], Counts]:
    """Return the counts of each group of labels, also without each evaluator."""
    kept = ~np.isnan(values)
    defined, of_defined = judged.pick(kept), values[kept]
    labels = (
        np.stack([defined.columns[key] for key in label_keys]) if label_keys else np.zeros((0, defined.n))
    )
    present, cells = np.zeros((0, 1), np.int64), np.zeros(defined.n, np.int64)
    if label_keys:
        present, cells = np.unique(labels, axis=1, return_inverse=True)
        cells = cells.reshape(-1)
    n_cells = present.shape[1]
    success = defined.columns["success"]
    of_success = cells[success]
    without, lacking = count_without(
        defined.pick(success), measure, betas, of_success if label_keys else None, n_cells
    )
    n_success, n_attempted = (np.bincount(some, minlength=n_cells) for some in (of_success, cells))
    bugs = [np.bincount(cells[success & (of_defined < beta)], minlength=n_cells) for beta in betas]
    classes = judged.evaluation.classes
    return {
        tuple(classes[label] for label in present[:, cell]): Counts(
            float(n_success[cell]), float(n_attempted[cell]), np.array([float(row[cell]) for row in bugs]),
            without[:, :, cell], lacking,
        )
        for cell in range(n_cells)
    }  # fmt: skip


def _label_pair(judged: Judged) -> NDArray[np.int64]:
    source, target = (judged.columns[key] for key in LABEL_KEYS)
    pair: NDArray[np.int64] = source * len(judged.evaluation.classes) + target
    return pair


def _narrow(values: NDArray[Any]) -> NDArray[Any]:
    """Return whole numbers in a narrow type: a query holds those of all attempts at once."""
    return values.astype(np.min_scalar_type(int(values.max(initial=0))))
