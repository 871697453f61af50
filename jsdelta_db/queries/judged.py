"""Judged attempts: those of one evaluation as columns, with all that a measure is computed from.

One evaluation at a time: its columns fit in memory where a store's would not. They are read from segments
where these have them all, else from rows.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from jsdelta_db.queries.columns import find_stored, read_segments
from jsdelta_db.queries.rho import Rho, read_baselines
from jsdelta_db.queries.selection import EvaluationInfo
from jsdelta_db.records import UNTARGETED
from jsdelta_db.store.reading import Reader, fetch_batches
from jsdelta_db.store.segments import BLOBS, KEY, Segment, read_attempts

# Always there.
OF_ATTEMPT = (*KEY, "source_label", "target_label", "success", "js_delta")
OF_CHOICE = ("n_right", "confidence", "js_of_mean", "js_attacked")
# One value for each evaluator, float32; absent where the store lacks it.
BY_EVALUATOR = ("member_js", "js_of_mean_without")
WHOLE = (*KEY, "source_label", "target_label", "n_right")
FLOAT = np.dtype("<f4")
AT_ONCE = 100  # evaluations whose segments are held at a time


class Judged(NamedTuple):
    """The attempts of one evaluation, row i of all columns one of them, in no particular order.

    Attributes:
        columns: ``OF_ATTEMPT`` and the columns asked for. ``js_delta`` is NaN where it is undefined; those
            of ``BY_EVALUATOR`` are ``(n, evaluators)``, the others ``(n,)``; ``requested_target`` is −1 of an
            untargeted attempt.
    """

    evaluation: EvaluationInfo
    columns: Mapping[str, NDArray[Any]]
    rho: Rho

    @property
    def n(self) -> int:
        """The number of attempts."""
        return len(self.columns["success"])

    @property
    def place(self) -> NDArray[np.int32]:
        """The row of each attempt's label pair in the baselines."""
        source, target = self.columns["source_label"], self.columns["target_label"]
        place: NDArray[np.int32] = self.rho.place[source * len(self.evaluation.classes) + target]
        return place

    def pick(self, rows: NDArray[Any]) -> "Judged":
        """Return some of the attempts, given by a mask or by their places."""
        picked = {name: column[rows] for name, column in self.columns.items()}
        return self._replace(columns=picked)


def read_judged(
    reader: Reader,
    evaluations: Sequence[EvaluationInfo],
    names: Collection[str] = (),
    *,
    successes_only: bool = False,
) -> Iterator[Judged]:
    """Yield each evaluation's attempts, in order.

    Args:
        names: columns beside ``OF_ATTEMPT``: some of ``OF_CHOICE`` and ``BY_EVALUATOR``.
    """
    baselines = read_baselines(reader, evaluations)
    for evaluation, columns in _read_columns(reader, evaluations, names, successes_only=successes_only):
        yield Judged(evaluation, columns, baselines.of(evaluation))


def _read_columns(
    reader: Reader, evaluations: Sequence[EvaluationInfo], names: Collection[str], *, successes_only: bool
) -> Iterator[tuple[EvaluationInfo, dict[str, NDArray[Any]]]]:
    """Yield each evaluation's columns, from segments, or from rows where segments lack one of them."""
    needed = ("sample_index", "label_pair", "js_delta", *names)
    in_segments = set(needed) <= set(BLOBS)
    stored = find_stored(reader, evaluations) if in_segments else {}
    for start in range(0, len(evaluations), AT_ONCE):
        some = evaluations[start : start + AT_ONCE]
        of_segments = {
            each.id: segments
            for each, segments in read_segments(
                reader, [each for each in some if each.id in stored], needed, successes_only=successes_only
            )
        }
        for evaluation in some:
            columns = None
            if evaluation.id in of_segments:
                columns = _join(evaluation, of_segments.pop(evaluation.id), names)
            if columns is None:
                columns = _read_rows(reader, evaluation, names)
                if successes_only:
                    wanted = columns["success"]
                    columns = {name: column[wanted] for name, column in columns.items()}
            yield evaluation, columns


def _join(
    evaluation: EvaluationInfo, segments: Sequence[Segment], names: Collection[str]
) -> dict[str, NDArray[Any]] | None:
    """Return the columns of an evaluation's segments; None where a segment lacks one."""
    n, n_classes = sum(segment.n for segment in segments), len(evaluation.classes)
    found: dict[str, NDArray[Any]] = {}
    for name in dict.fromkeys(("sample_index", "label_pair", "js_delta", *names)):
        pieces = [getattr(segment, name) for segment in segments]
        if any(piece is None for piece in pieces):
            return None
        values = np.concatenate(pieces) if pieces else np.zeros(0)
        if name in BY_EVALUATOR:
            if values.size != n * evaluation.n_evaluators:  # damaged, as in rows
                return None
            values = values.reshape(n, evaluation.n_evaluators)
        found[name] = values
    pair = found.pop("label_pair").astype(np.int64)
    found["sample_index"] = found["sample_index"].astype(np.int64)
    found["source_label"], found["target_label"] = np.divmod(pair, n_classes)
    is_untargeted = evaluation.facts["targets"] == "untargeted"
    found["requested_target"] = (
        np.full(n, UNTARGETED, dtype=np.int64) if is_untargeted else found["target_label"]
    )
    found["success"] = np.repeat([segment.success for segment in segments], [s.n for s in segments]).astype(
        bool
    )
    return found


def _read_rows(reader: Reader, evaluation: EvaluationInfo, names: Collection[str]) -> dict[str, NDArray[Any]]:
    """Return an evaluation's attempts from the rows of ``sample`` and ``score``."""
    wanted = tuple(dict.fromkeys((*OF_ATTEMPT, *(name for name in names if name in OF_CHOICE))))
    columns: dict[str, NDArray[Any]] = dict(
        read_attempts(reader, evaluation_id=evaluation.id, attack_id=evaluation.attack_id, names=wanted)
    )
    for name in wanted:
        if name in WHOLE:
            columns[name] = columns[name].astype(np.int64)
    columns["success"] = columns["success"] == 1
    keys = _number(columns["sample_index"], columns["requested_target"])
    for name in BY_EVALUATOR[:1]:
        if name in names:
            found = _read_by_evaluator(reader, evaluation, name, keys)
            if found is not None:
                columns[name] = found
    return columns


def _read_by_evaluator(
    reader: Reader, evaluation: EvaluationInfo, name: str, keys: NDArray[np.int64]
) -> NDArray[np.float32] | None:
    """Return a column of float32 blobs as ``(n, evaluators)``, None where an attempt lacks it.

    Args:
        keys: of the attempts that are wanted, ascending.
    """
    n = evaluation.n_evaluators
    sql = (
        f"SELECT {', '.join(KEY)}, {name} FROM score WHERE evaluation_id = :evaluation_id "  # noqa: S608 the schema's
        f"ORDER BY {', '.join(KEY)}"
    )
    numbers, blobs = [np.zeros(0, np.int64)], [np.zeros((0, n), FLOAT)]
    for rows in fetch_batches(reader, sql, evaluation_id=evaluation.id):
        index, target, packed = zip(*rows, strict=True)
        if any(blob is None or len(blob) != n * FLOAT.itemsize for blob in packed):
            return None
        numbers.append(_number(np.array(index), np.array(target)))
        blobs.append(np.frombuffer(b"".join(packed), FLOAT).reshape(-1, n))
    values = np.concatenate(blobs)
    found = np.concatenate(numbers)
    if not np.array_equal(found, keys):  # damaged: a score without its sample
        values = values[np.searchsorted(found, keys)]
    return values


def _number(index: NDArray[np.int64], target: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return a number for each key, ascending like the keys."""
    numbers: NDArray[np.int64] = index * (1 << 20) + target - UNTARGETED
    return numbers
