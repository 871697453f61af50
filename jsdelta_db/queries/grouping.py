"""Groups: evaluations gathered by their facts, with their attempts as columns."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jsdelta_db.errors import UnknownNameError, UsageError
from jsdelta_db.queries.selection import (
    ALL_CORRECT,
    ATTACKED_CORRECT,
    CONFIGURATION_KEYS,
    DEFAULT_KEYS,
    EvaluationInfo,
    Row,
)
from jsdelta_db.queries.statistics import Estimate, Interval
from jsdelta_db.store.reading import Reader
from jsdelta_db.store.segments import read_attempts

TOO_FEW = 30  # samples under which a number is marked
LABEL_KEYS = ("source_label", "target_label")
BY_CHOICES = (
    *DEFAULT_KEYS, *CONFIGURATION_KEYS, "evaluators", "attack", "label-pair", "source-label", "target-label",
)  # fmt: skip
RECORDED = (*DEFAULT_KEYS, *CONFIGURATION_KEYS)
pick_recorded = itemgetter(*RECORDED)
# By name, each ``(n,)``, row i of all of them one attempt; NaN where the store has no value.
Columns = Mapping[str, NDArray[np.float64]]
Part = tuple[EvaluationInfo, Columns]


@dataclass(frozen=True, slots=True)
class Table:
    """Rows by group, with the facts that a reader needs beside them.

    Attributes:
        keys: what the rows are grouped by; the first columns.
        pooled: what differs among the evaluations behind a row.
        norm: of every ε; "" if there are several.
    """

    keys: tuple[str, ...]
    rows: list[Row]
    pooled: Mapping[str, tuple[Any, ...]]
    norm: str


def load_scores(
    reader: Reader,
    evaluation: EvaluationInfo,
    names: Sequence[str],
    *,
    population: str = ATTACKED_CORRECT,
    successes_only: bool = False,
) -> Columns:
    """Return columns of ``sample`` and ``score`` for one evaluation's attempts."""
    loaded = dict.fromkeys((*names, "n_right", "success"))
    columns = read_attempts(
        reader, evaluation_id=evaluation.id, attack_id=evaluation.attack_id, names=tuple(loaded)
    )
    wanted_rows = np.ones(len(columns["success"]), dtype=bool)
    if population == ALL_CORRECT:
        wanted_rows &= columns["n_right"] == evaluation.n_evaluators
    if successes_only:
        wanted_rows &= columns["success"] == 1
    return {name: columns[name][wanted_rows] for name in names}


def group_scores(
    reader: Reader,
    evaluations: Sequence[EvaluationInfo],
    keys: Sequence[str],
    names: Sequence[str],
    *,
    population: str = ATTACKED_CORRECT,
    successes_only: bool = False,
) -> Iterator[tuple[Row, list[Part]]]:
    """Yield the facts of each group, in order, and its evaluations with their columns."""
    grouped: dict[tuple[Any, ...], list[Part]] = {}
    for evaluation in evaluations:
        columns = load_scores(
            reader, evaluation, ("sample_index", *names), population=population,
            successes_only=successes_only,
        )  # fmt: skip
        grouped.setdefault(tuple(evaluation.facts[key] for key in keys), []).append((evaluation, columns))
    for group in sorted(grouped, key=lambda group: [sort_key(value) for value in group]):
        yield dict(zip(keys, group, strict=True)), grouped[group]


def join_parts(parts: Sequence[Part], name: str) -> NDArray[np.float64]:
    """Return one column of all parts of a group."""
    return np.concatenate([columns[name] for _, columns in parts])


def number_images(parts: Sequence[Part]) -> NDArray[np.int64]:
    """Return a number for the image of each row, the same wherever it is the same image."""
    sets = sorted({evaluation.image_set for evaluation, _ in parts})
    numbers = [
        (sets.index(evaluation.image_set) << 40) + columns["sample_index"].astype(np.int64)
        for evaluation, columns in parts
    ]
    return np.concatenate(numbers)


def resolve_keys(by: Sequence[str], evaluations: Sequence[EvaluationInfo]) -> tuple[str, ...]:
    """Resolve ``--by`` to the keys of a row.

    Raises:
        UnknownNameError: an unknown grouping.
        UsageError: one given twice.
    """
    keys: list[str] = []
    for name in by:
        if name not in BY_CHOICES:
            raise UnknownNameError("--by", name, BY_CHOICES)
        keys += LABEL_KEYS if name == "label-pair" else (name.replace("-label", "_label"),)
    if len(set(keys)) < len(keys):
        raise UsageError(f"--by {','.join(by)} names a grouping twice; give each once")
    if keys:
        return tuple(keys)
    keys = [*DEFAULT_KEYS, *(key for key in CONFIGURATION_KEYS if len(_values(evaluations, key)) > 1)]
    # Each attacked model has evaluators of its own: a column only where one attack was evaluated twice.
    # The attack itself is the last resort, for example for two files from one library.
    for last in ("evaluators", "attack"):
        if len({tuple(e.facts[key] for key in keys) for e in evaluations}) < len(evaluations):
            keys.append(last)
    if "attack" in keys and len(_values(evaluations, "evaluators")) == 1:
        keys.remove("evaluators")
    return tuple(keys)


def find_pooled(evaluations: Sequence[EvaluationInfo], keys: Sequence[str]) -> dict[str, tuple[Any, ...]]:
    """Return the facts that differ among the evaluations but are no key: each row pools them."""
    # Column by column: with thousands of evaluations this is most of a query's own work.
    recorded = [pick_recorded(e.facts) for e in evaluations]
    columns = dict(zip(RECORDED, zip(*recorded, strict=True), strict=True)) if recorded else {}
    values = {key: tuple(dict.fromkeys(columns[key])) for key in columns if key not in keys}
    attacks = {e.attack_id for e in evaluations}
    if "evaluators" not in keys and len(attacks) < len(evaluations):
        values["evaluators"] = _values(evaluations, "evaluators")
    if "attack" not in keys and len(set(recorded)) < len(attacks):
        values["attack"] = _values(evaluations, "attack")
    return {key: different for key, different in values.items() if len(different) > 1}


def common_norm(evaluations: Sequence[EvaluationInfo]) -> str:
    """Return the norm of every ε; "" if there are several."""
    norms = _values(evaluations, "norm")
    return norms[0] if len(norms) == 1 else ""


def interval_cells(name: str, interval: Interval | None) -> Row:
    """Return the two cells of an interval in a row."""
    return {
        f"{name}_low": interval.low if interval else None,
        f"{name}_high": interval.high if interval else None,
    }


def _values(evaluations: Sequence[EvaluationInfo], key: str) -> tuple[Any, ...]:
    return tuple(dict.fromkeys(e.facts[key] for e in evaluations))


def sort_key(value: object) -> tuple[int, Any]:
    """Return a key that sorts None first, then numbers, then text."""
    if value is None:
        return (0, 0)
    return (1, value) if isinstance(value, int | float) else (2, str(value))


def estimate_cells(name: str, estimate: Estimate | None) -> Row:
    """Return the three cells of an estimate in a row."""
    return {
        name: estimate.value if estimate else None,
        f"{name}_low": estimate.low if estimate else None,
        f"{name}_high": estimate.high if estimate else None,
    }
