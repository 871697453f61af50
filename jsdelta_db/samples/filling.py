"""Filling in: columns of scores that an earlier version did not store, from the logits that it kept."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import bindparam, select, update

from jsdelta_db.compute.data import Dataset
from jsdelta_db.compute.metrics.divergence import log_probs
from jsdelta_db.compute.metrics.scoring import js_of_mean_without
from jsdelta_db.errors import JsdeltaError
from jsdelta_db.records import FILE_SPLIT
from jsdelta_db.samples.chunk_files import Arrays
from jsdelta_db.samples.restoring import KEY, StoredChunk, list_chunks, read_file
from jsdelta_db.store.altered import SCORES
from jsdelta_db.store.digests import COVERED, LATER, digest_of_rows
from jsdelta_db.store.packed import pack
from jsdelta_db.store.schema import (
    FINISHED,
    Attack,
    Evaluation,
    EvaluationChunk,
    EvaluationMember,
    ModelLogits,
    Sample,
    Score,
)
from jsdelta_db.store.schema import Dataset as DatasetRow
from jsdelta_db.workbench.datasets import open_root
from jsdelta_db.workbench.model_files import read_logits
from jsdelta_db.workbench.workbench import Workbench

NAMES = COVERED["score"]
Key = tuple[int, int]


@dataclass(frozen=True, slots=True)
class _Judged:
    """An evaluation whose scores lack columns.

    Attributes:
        temperatures: the evaluators', float32 ``(evaluators, 1, 1)``.
        clean_logits: theirs on the attacked split; empty where they lie in the scores' files.
        labels: by attempt the source label.
        rows: by attempt the columns that digests cover.
    """

    evaluation: Evaluation
    temperatures: NDArray[np.float32]
    clean_logits: list[NDArray[np.float32]]
    dataset: Dataset
    split: str
    labels: dict[Key, int]
    rows: dict[Key, tuple[object, ...]]


def fill_scores(bench: Workbench) -> Iterator[str]:
    """Fill in what scores lack, of all finished evaluations.

    Yields:
        A line for each evaluation: done, or why not.
    """
    with bench.store.reading() as connection:
        lacking = select(Score.evaluation_id).where(Score.n_right_adv.is_(None)).distinct()
        finished = select(Evaluation.id, Evaluation.uid).where(Evaluation.status == FINISHED)
        found = connection.execute(finished.where(Evaluation.id.in_(lacking)).order_by(Evaluation.id)).all()
    for evaluation_id, uid in found:
        chunks = list_chunks(bench, SCORES, evaluation_id)
        try:
            judged = _open(bench, evaluation_id)
        except JsdeltaError as error:
            yield f"the scores of evaluation {uid} stay without n_right_adv: {error}"
            continue
        filled = sum(_fill_chunk(bench, judged, chunk) for chunk in chunks)
        if filled < len(chunks):
            yield f"the scores of evaluation {uid} stay without n_right_adv: a file is missing or altered"
        else:
            yield f"filled in the scores of evaluation {uid}"


def _open(bench: Workbench, evaluation_id: int) -> _Judged:
    """Read what the columns of an evaluation's scores are computed from.

    Raises:
        JsdeltaError: a file or the data set is missing or altered.
    """
    with bench.store.read_session() as session:
        evaluation = session.get_one(Evaluation, evaluation_id)
        attack = session.get_one(Attack, evaluation.attack_id)
        dataset_row = session.get_one(DatasetRow, attack.dataset_id)
        members = session.execute(
            select(EvaluationMember.temperature, ModelLogits)
            .outerjoin(
                ModelLogits,
                (ModelLogits.model_id == EvaluationMember.model_id)
                & (ModelLogits.dataset_id == attack.dataset_id)
                & (ModelLogits.split == attack.split),
            )
            .where(EvaluationMember.evaluation_id == evaluation_id)
            .order_by(EvaluationMember.position)
        ).all()
        labels = session.execute(
            select(Sample.sample_index, Sample.requested_target, Sample.source_label).where(
                Sample.attack_id == attack.id
            )
        ).all()
        columns = [getattr(Score, name) for name in NAMES]
        rows = session.execute(select(*columns).where(Score.evaluation_id == evaluation_id)).all()
    needs_clean = attack.split != FILE_SPLIT
    return _Judged(
        evaluation,
        np.array([temperature for temperature, _ in members], np.float32)[:, None, None],
        [read_logits(bench.workspace, stored) for _, stored in members] if needs_clean else [],
        open_root(bench.workspace, dataset_row, "that was attacked"),
        attack.split,
        {(row[0], row[1]): row[2] for row in labels},
        {(row[0], row[1]): tuple(row) for row in rows},
    )


def _fill_chunk(bench: Workbench, judged: _Judged, chunk: StoredChunk) -> bool:
    """Fill in one chunk's scores; return whether nothing is missing now."""
    arrays = read_file(bench, chunk)
    if arrays is None or "logits" not in arrays:
        return False
    keys = list(zip(*(arrays[name].tolist() for name in KEY), strict=True))
    if not all(key in judged.rows and key in judged.labels for key in keys):
        return False
    before = [judged.rows[key] for key in keys]
    if chunk.digest is not None and digest_of_rows("score", before) != chunk.digest:
        return False  # altered: a new digest would say that they are not
    labels = np.array([judged.labels[key] for key in keys])
    n_right_adv = (arrays["logits"].argmax(-1) == labels).sum(0).tolist()
    packed = _packed_without(judged, arrays)
    later = list(zip(n_right_adv, packed, strict=True))
    digest = digest_of_rows(
        "score", [row[: -len(LATER)] + more for row, more in zip(before, later, strict=True)]
    )
    values = [
        {"i": index, "t": target, "n": n, "packed": blob}
        for (index, target), (n, blob) in zip(keys, later, strict=True)
    ]
    evaluation_id = judged.evaluation.id
    of_row = (Score.sample_index == bindparam("i")) & (Score.requested_target == bindparam("t"))
    statement = update(Score).where(Score.evaluation_id == evaluation_id, of_row)
    filled: dict[str, Any] = {"n_right_adv": bindparam("n"), "js_of_mean_without": bindparam("packed")}
    with bench.store.transaction() as session:
        stored = session.get_one(EvaluationChunk, (evaluation_id, chunk.position))
        if stored.digest != chunk.digest:
            return False
        session.connection().execute(statement.values(**filled), values)
        stored.digest = digest if chunk.digest is not None else None
    return True


def _packed_without(judged: _Judged, arrays: Arrays) -> list[bytes | None]:
    """Return ``js_of_mean_without`` of a chunk as it is stored."""
    if judged.clean_logits:
        rows = judged.dataset.splits[judged.split].rows_of(arrays["sample_index"])
        clean: NDArray[np.float32] = np.stack([logits[rows] for logits in judged.clean_logits])
    else:
        clean = arrays["clean_logits"]
    adversarial: NDArray[np.float32] = arrays["logits"]
    values = js_of_mean_without(
        log_probs(clean / judged.temperatures), log_probs(adversarial / judged.temperatures)
    )
    return list(pack(values)) if values.shape[1] else [None] * len(values)
