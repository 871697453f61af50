"""Sensitivity: one question under every measure side by side, and whether its answer hangs on the measure.

β has a meaning of its own under each measure, so each answers twice: at the same β, and at the matched one,
the quantile of the measure, over all successes asked about, at the share that JSΔ has below β. Levels are
not compared across measures, only signs: are bugs more or less than half, and does their share rise or fall
with ε? The measures share their data: that they agree is no independent confirmation.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jsdelta_db.config.evaluation import DEFAULT_BETA, check_beta
from jsdelta_db.config.measures import JS_DELTA, MEASURES, OVER_IMAGES, Measuring
from jsdelta_db.queries.bug_groups import Question, tally_groups
from jsdelta_db.queries.bugs import count_bugs
from jsdelta_db.queries.grouping import Table, common_norm, resolve_keys, sort_key
from jsdelta_db.queries.judged import read_judged
from jsdelta_db.queries.measured import list_columns, measure_selected
from jsdelta_db.queries.pooling import count_once, find_pooled
from jsdelta_db.queries.selection import EvaluationInfo, Row, Selection, list_evaluations
from jsdelta_db.store.reading import Reader, without_collecting

SAME, MATCHED = "same", "matched"
MORE, LESS, UNDECIDED = "more than half", "less than half", "undecided"
ROBUST, DEPENDS, NOT_SETTLED = "robust", "depends on the measure", "not settled"
FALLS, RISES = "falls", "rises"
SENSITIVITY_KEYS = (
    "measure", "threshold", "beta", "n_attempted", "n_success", "n_no_baseline", "n_no_relative", "n_bugs",
    "bug_fraction", "bug_fraction_low", "bug_fraction_high", "majority", "change", "reading",
    "change_reading", "interval", "covers", "n_images", "n_images_bug", "n_images_non_bug", "n_models",
    "share_models", "too_few", "warnings",
)  # fmt: skip


@without_collecting()
def query_sensitivity(
    reader: Reader,
    beta: float = DEFAULT_BETA,
    by: Sequence[str] = (),
    selection: Selection = Selection(),  # noqa: B008 frozen
    interval: str | None = None,
) -> Table:
    """Return the share of bugs under every measure, at the same β and at the matched one, by group.

    Args:
        beta: threshold on JSΔ, and, where the same one is taken, on the other measures.
        by: what to group by; empty for ε.
        interval: whose draw intervals cover (see ``Measuring``).

    Raises:
        UsageError: a β outside (0, ∞), or an unknown grouping.
        StoreError: the store lacks what a measure needs.
    """
    check_beta(beta)
    evaluations = list_evaluations(reader, selection)
    asked = resolve_keys(by or ("eps",), evaluations)
    keys, counted = count_once(evaluations, asked, selection.named_facts)
    matched = _match(reader, counted, beta, selection)
    rows: list[Row] = []
    for measure in MEASURES:
        thresholds = {SAME: beta, **({MATCHED: matched[measure]} if measure in matched else {})}
        measuring = Measuring(measure, interval).for_attempts(sum(each.n_attempts for each in counted))
        question = Question(tuple(thresholds.values()), selection, measuring)
        for facts, tallied, of_attacks in tally_groups(reader, counted, keys, question):
            for name, row in zip(thresholds, count_bugs(facts, tallied, question, of_attacks), strict=True):
                rows.append({**row, "threshold": name, "majority": _judge(row)})
    rows.sort(key=lambda row: [sort_key(row[key]) for key in keys])  # stable: of a group in the order above
    _read_majority(rows, keys)
    _read_change(rows, keys)
    return Table(
        keys, rows, find_pooled(counted, keys), common_norm(counted), separated=keys[len(asked) :],
        n_left_out=len(evaluations) - len(counted),
    )  # fmt: skip


def _match(
    reader: Reader, evaluations: Sequence[EvaluationInfo], beta: float, selection: Selection
) -> dict[str, float]:
    """Return the matched threshold of each measure but JSΔ; none where nothing is matched.

    A quantile is a threshold that the same share of successes lies below. In single precision: values of
    all successes are held at once.
    """
    names = {
        name for measure in MEASURES for name in list_columns(selection, Measuring(measure, OVER_IMAGES))
    }
    found: dict[str, list[NDArray[np.float32]]] = {measure: [] for measure in MEASURES}
    n_success = n_bugs = 0
    for judged in read_judged(reader, evaluations, names, successes_only=True):
        for measure, values in found.items():
            _, measured = measure_selected(judged, selection, measure)
            measured = measured[~np.isnan(measured)]
            if measure == JS_DELTA:
                n_success += len(measured)
                n_bugs += int(np.count_nonzero(measured < beta))
            else:
                values.append(measured.astype(np.float32))
    matched = {}
    for measure, values in found.items():
        joined = np.concatenate([np.zeros(0, np.float32), *values])
        if len(joined) and n_success:
            threshold = float(np.quantile(joined, n_bugs / n_success))
            if threshold > 0:
                matched[measure] = threshold
    return matched


def _judge(row: Row) -> str | None:
    """Return which side of one half the interval of a fraction lies on."""
    if row["bug_fraction"] is None:
        return None
    low, high = row["bug_fraction_low"], row["bug_fraction_high"]
    if low is None or low <= 0.5 <= high:
        return UNDECIDED
    return MORE if low > 0.5 else LESS


def _read_majority(rows: Iterable[Row], keys: Sequence[str]) -> None:
    """Add to each row whether "more, or less, than half are bugs" holds under every measure."""
    for group in _group(rows, keys).values():
        default, *others = group
        signs = {_sign(row["bug_fraction"], 0.5) for row in group}
        reading = ROBUST if len(signs) == 1 else DEPENDS
        if default["majority"] in (None, UNDECIDED) or None in signs:
            reading = NOT_SETTLED
        for row in (default, *others):
            row["reading"] = reading


def _read_change(rows: Iterable[Row], keys: Sequence[str]) -> None:
    """Add to each row how the fraction changes from the next smaller ε, and whether all measures agree."""
    others = [key for key in keys if key != "eps"]
    for group in _group(rows, others).values():
        before: Mapping[tuple[Any, ...], float | None] = {}
        for of_eps in _group(group, ["eps"] if "eps" in keys else []).values():
            now = {(row["measure"], row["threshold"]): row["bug_fraction"] for row in of_eps}
            for row in of_eps:
                previous = before.get((row["measure"], row["threshold"]))
                known = previous is not None and row["bug_fraction"] is not None
                row["change"] = row["bug_fraction"] - previous if known else None
            signs = {_sign(row["change"], 0.0) for row in of_eps}
            reading = {-1: FALLS, 1: RISES}.get(signs.pop() or 0) if len(signs) == 1 else DEPENDS
            for row in of_eps:
                row["change_reading"] = reading if row["change"] is not None else None
            before = now


def _sign(value: float | None, of: float) -> int | None:
    return None if value is None else int(np.sign(value - of))


def _group(rows: Iterable[Row], keys: Sequence[str]) -> dict[tuple[Any, ...], list[Row]]:
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(row[key] for key in keys), []).append(row)
    return groups
