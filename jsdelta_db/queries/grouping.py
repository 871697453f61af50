"""Groups: evaluations gathered by their facts, with their attempts as columns."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jsdelta_db.errors import UnknownNameError, UsageError
from jsdelta_db.queries.facts.keys import HYPERPARAMETERS, RECORDED, find_key
from jsdelta_db.queries.selection import (
    ALL_CORRECT,
    ATTACKED_CORRECT,
    CONFIGURATION_KEYS,
    DEFAULT_KEYS,
    EvaluationInfo,
    Row,
)
from jsdelta_db.queries.statistics import Estimate, Share
from jsdelta_db.records import SEEN_SPLITS
from jsdelta_db.store.reading import Reader
from jsdelta_db.store.segments import read_attempts

LABEL_KEYS = ("source_label", "target_label")
OF_LABELS = {"label_pair": LABEL_KEYS, "source_label": LABEL_KEYS[:1], "target_label": LABEL_KEYS[1:]}
BY_CHOICES = (*RECORDED, "label-pair", "source-label", "target-label", *HYPERPARAMETERS)
# By name, each ``(n,)``, row i of all of them one attempt; NaN where the store has no value.
Columns = Mapping[str, NDArray[np.float64]]
Part = tuple[EvaluationInfo, Columns]


@dataclass(frozen=True, slots=True)
class Table:
    """Rows by group, with the facts that a reader needs beside them.

    Attributes:
        keys: what the rows are grouped by; the first columns.
        pooled: what differs among the evaluations behind a row.
        separated: keys that were added to those asked for, so that no attempt counts twice.
        n_left_out: evaluations whose attempts are all among another's of the same row.
        norm: of every ε; "" if there are several.
        n_more: groups that a limit left out.
    """

    keys: tuple[str, ...]
    rows: list[Row]
    pooled: Mapping[str, tuple[Any, ...]]
    norm: str
    separated: tuple[str, ...] = ()
    n_left_out: int = 0
    n_more: int = 0


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
    return np.concatenate(
        [evaluation.number_images(columns["sample_index"].astype(np.int64)) for evaluation, columns in parts]
    )


def resolve_keys(by: Sequence[str], evaluations: Sequence[EvaluationInfo]) -> tuple[str, ...]:
    """Resolve ``--by`` to the keys of a row.

    Images that models have seen, or are measured on, are never counted without a word: the split is a key.

    Raises:
        UnknownNameError: an unknown grouping.
        UsageError: one given twice.
    """
    keys: list[str] = []
    for name in by:
        key = find_key(name)
        labels = OF_LABELS.get(name.replace("-", "_"), ())
        if key is None and not labels:
            raise UnknownNameError("--by", name, BY_CHOICES)
        keys += labels if key is None else (key,)
    if len(set(keys)) < len(keys):
        raise UsageError(f"--by {','.join(by)} names a grouping twice; give each once")
    if not keys:
        keys = _default_keys(evaluations)
    if "split" not in keys and not set(SEEN_SPLITS).isdisjoint(_values(evaluations, "split")):
        keys.append("split")
    return tuple(keys)


def _default_keys(evaluations: Sequence[EvaluationInfo]) -> list[str]:
    """Return the default keys, and those of the facts that differ."""
    keys = [*DEFAULT_KEYS, *(key for key in CONFIGURATION_KEYS if len(_values(evaluations, key)) > 1)]
    # Each attacked model has evaluators of its own: a column only where one attack was evaluated twice.
    # The attack itself is the last resort, for example for two files from one library.
    for last in ("evaluators", "attack"):
        if len({tuple(e.facts[key] for key in keys) for e in evaluations}) < len(evaluations):
            keys.append(last)
    if "attack" in keys and len(_values(evaluations, "evaluators")) == 1:
        keys.remove("evaluators")
    return keys


def common_norm(evaluations: Sequence[EvaluationInfo]) -> str:
    """Return the norm of every ε; "" if there are several."""
    norms = _values(evaluations, "norm")
    return norms[0] if len(norms) == 1 else ""


def _values(evaluations: Sequence[EvaluationInfo], key: str) -> tuple[Any, ...]:
    return tuple(dict.fromkeys(e.facts[key] for e in evaluations))


def sort_key(value: object) -> tuple[int, Any]:
    """Return a key that sorts None first, then numbers, then text."""
    if value is None:
        return (0, 0)
    return (1, value) if isinstance(value, int | float) else (2, str(value))


def estimate_cells(name: str, estimate: Estimate | Share | None) -> Row:
    """Return the three cells of an estimate in a row."""
    return {
        name: estimate.value if estimate else None,
        f"{name}_low": estimate.low if estimate else None,
        f"{name}_high": estimate.high if estimate else None,
    }
