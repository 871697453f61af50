"""Samples: one row per attempt, filtered, sorted and limited by the database."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from jsdelta_db.config.evaluation import check_beta
from jsdelta_db.config.labels import find_label
from jsdelta_db.errors import UnknownNameError, UsageError
from jsdelta_db.queries.selection import ALL_CORRECT, EvaluationInfo, Row, Selection, list_evaluations
from jsdelta_db.records import SEEN_SPLITS
from jsdelta_db.store.outside import COUNTED
from jsdelta_db.store.reading import Reader, fetch

# The columns of a row, by which it can be sorted, as SQL.
EXPRESSIONS = {
    "attack": "evaluation.attack_id",
    "evaluation": "evaluation.id",
    "sample_index": "sample.sample_index",
    "source_label": "sample.source_label",
    "target_label": "sample.target_label",
    "success": "sample.success",
    "outside": "sample.outside",
    "js_delta": "score.js_delta",
    "js": "score.js",
    "js_attacked": "score.js_attacked",
    "transfer_ratio": "score.js / NULLIF(score.js_attacked, 0)",
    "confidence": "sample.confidence",
    "linf": "sample.linf",
    "l2": "sample.l2",
    "stability": "sample.stability",
    "n_right": "score.n_right",
    "n_at_target": "score.n_at_target",
    "n_at_target_adv": "score.n_at_target_adv",
}
SAMPLE_KEYS = tuple(EXPRESSIONS)
ATTEMPTS = """
FROM evaluation
JOIN score ON score.evaluation_id = evaluation.id
JOIN sample ON sample.attack_id = evaluation.attack_id AND sample.sample_index = score.sample_index
           AND sample.requested_target = score.requested_target
WHERE {where}
"""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A filter and an order of the attempts of the selected evaluations.

    Attributes:
        bugs: a threshold β: only successes with JSΔ strictly below.
        failures: failed attempts, too, and samples beyond ε.
        source, target: labels, by name or number.
        sort: a key of the rows, with ``-`` before it for the largest first; rows without a value come last.
        limit: how many at most; 0 for all.

    Raises:
        UsageError: a β outside (0, ∞), failures among bugs, or an unknown key.
    """

    bugs: float | None = None
    failures: bool = False
    source: str | None = None
    target: str | None = None
    sort: str = "js_delta"
    limit: int = 20

    def __post_init__(self) -> None:
        if self.bugs is not None:
            check_beta(self.bugs)
        if self.bugs is not None and self.failures:
            raise UsageError("--bugs asks for successes and --all for failed attempts, too; give one of them")
        if self.sort.removeprefix("-") not in SAMPLE_KEYS:
            raise UnknownNameError("--sort", self.sort, SAMPLE_KEYS, "put - before it for the largest first")


def query_samples(
    reader: Reader,
    wanted: Wanted = Wanted(),
    selection: Selection = Selection(),  # noqa: B008 frozen
) -> tuple[list[Row], int]:
    """Return one row per attempt, and the number of rows left out.

    Rows say of which split their images are where models have seen some, or are measured on them.

    Raises:
        UnknownNameError: a label that none of the data sets has.
    """
    evaluations = list_evaluations(reader, selection)
    where = _where(evaluations, wanted, selection.population)
    if where is None:
        return [], 0
    attempts = ATTEMPTS.format(where=where)
    values = {} if wanted.bugs is None else {"beta": float(wanted.bugs)}
    key = EXPRESSIONS[wanted.sort.removeprefix("-")]
    sql = (
        f"SELECT evaluation.id, {', '.join(EXPRESSIONS.values())} {attempts}"
        f"ORDER BY {key} IS NULL, {key} {'DESC' if wanted.sort.startswith('-') else 'ASC'}, "
        "evaluation.id, sample.sample_index, sample.requested_target"
    )
    if wanted.limit:
        sql += f" LIMIT {wanted.limit:d}"
    by_id = {each.id: each for each in evaluations}
    rows = [_row(by_id[evaluation_id], found) for evaluation_id, *found in fetch(reader, sql, **values)]
    if any(each.facts["split"] in SEEN_SPLITS for each in evaluations):
        split_of = {each.uid: each.facts["split"] for each in evaluations}
        rows = [{**row, "split": split_of[row["evaluation"]]} for row in rows]
    if not wanted.limit or len(rows) < wanted.limit:
        return rows, 0
    ((count,),) = fetch(reader, f"SELECT count(*) {attempts}", **values)
    return rows, int(count) - len(rows)


def _where(evaluations: Sequence[EvaluationInfo], wanted: Wanted, population: str) -> str | None:
    """Return the conditions as SQL, of numbers and ``:beta``; None where no data set has the labels."""
    if not evaluations:
        return None
    alike: dict[str, list[int]] = {}
    for each in evaluations:
        conditions = _label_conditions(each.classes, wanted)
        if conditions is not None:
            if population == ALL_CORRECT:
                conditions.append(f"score.n_right = {each.n_evaluators:d}")
            alike.setdefault(" AND ".join(["", *conditions]), []).append(each.id)
    if not alike:
        raise _unknown_label(evaluations, wanted)
    parts = [f"(evaluation.id IN ({', '.join(map(str, ids))}){also})" for also, ids in alike.items()]
    where = [f"({' OR '.join(parts)})"]
    if not wanted.failures:
        where.append(f"{COUNTED} = 1")
    if wanted.bugs is not None:
        where.append("score.js_delta < :beta")
    return " AND ".join(where)


def _label_conditions(classes: Sequence[str], wanted: Wanted) -> list[str] | None:
    """Return the conditions on labels as SQL; None where a data set does not have them."""
    conditions = []
    for column, text in (("source_label", wanted.source), ("target_label", wanted.target)):
        if text is not None:
            number = find_label(text, classes)
            if number is None:
                return None
            conditions.append(f"sample.{column} = {number:d}")
    return conditions


def _unknown_label(evaluations: Sequence[EvaluationInfo], wanted: Wanted) -> UnknownNameError:
    known = dict.fromkeys(name for each in evaluations for name in each.classes)
    for option, text in (("--source", wanted.source), ("--target", wanted.target)):
        if text is not None and all(find_label(text, each.classes) is None for each in evaluations):
            return UnknownNameError(option, text, known)
    return UnknownNameError("label pair", f"{wanted.source}, {wanted.target}", known)


def _row(evaluation: EvaluationInfo, values: Sequence[Any]) -> Row:
    row = dict(zip(SAMPLE_KEYS, values, strict=True))
    return {
        **row,
        "attack": evaluation.attack_uid,
        "evaluation": evaluation.uid,
        "source_label": evaluation.classes[row["source_label"]],
        "target_label": evaluation.classes[row["target_label"]],
        "success": bool(row["success"]),
        "outside": None if row["outside"] is None else bool(row["outside"]),
    }
