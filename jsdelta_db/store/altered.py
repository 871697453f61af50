"""Altered rows: samples, scores and baselines that are not those that were stored, found by their digests."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, func, select
from sqlalchemy.orm import Session

from jsdelta_db.store.baselines import is_altered
from jsdelta_db.store.digests import add_up, digest_stored
from jsdelta_db.store.outside import is_misplaced
from jsdelta_db.store.schema import (
    FINISHED,
    Attack,
    AttackChunk,
    Evaluation,
    EvaluationChunk,
    Model,
    RhoBaseline,
    Sample,
    Score,
)


@dataclass(frozen=True, slots=True)
class RowKind:
    """Rows that chunks have the digests of.

    Attributes:
        parent: the column, of rows and chunks, with the id of their run.
    """

    title: str
    runs: type[Attack] | type[Evaluation]
    chunks: type[Any]
    rows: type[Any]
    parent: str


SAMPLES = RowKind("samples", Attack, AttackChunk, Sample, "attack_id")
SCORES = RowKind("scores", Evaluation, EvaluationChunk, Score, "evaluation_id")
KINDS = (SAMPLES, SCORES)


def list_altered(connection: Connection, kind: RowKind) -> list[tuple[int, str]]:
    """Return id and uid of the runs whose rows are as many as in their finished chunks, but not the same.

    Runs with a chunk that has no digest are left out.
    """
    chunks = kind.chunks
    statement = select(kind.runs.id, kind.runs.uid, chunks.n_attempts, chunks.digest).join(
        chunks, (getattr(chunks, kind.parent) == kind.runs.id) & (chunks.status == FINISHED)
    )
    parts: dict[tuple[int, str], list[tuple[int, str | None]]] = {}
    for run_id, uid, n_attempts, digest in connection.execute(statement.order_by(kind.runs.id)):
        parts.setdefault((run_id, uid), []).append((n_attempts, digest))
    found = []
    for run, of_run in parts.items():
        digests = [digest for _, digest in of_run if digest is not None]
        if len(digests) == len(of_run):
            n, digest = digest_stored(connection, kind.rows.__tablename__, kind.parent, run[0])
            is_whole = n == sum(n_attempts for n_attempts, _ in of_run)
            is_other = digest is None or digest != add_up(digests)
            # No digest covers ``outside``, which follows from what they do cover.
            if is_whole and (is_other or (kind is SAMPLES and is_misplaced(connection, run[0]))):
                found.append(run)
    return found


def list_altered_baselines(session: Session) -> Iterator[tuple[RhoBaseline, str]]:
    """Yield the baselines of models that are not as they were stored, with the uids of their models."""
    # A damaged row may name a model that is not there.
    statement = select(RhoBaseline, Model.uid).outerjoin(Model, Model.id == RhoBaseline.model_id)
    for row, uid in session.execute(statement.where(RhoBaseline.digest.is_not(None))):
        if is_altered(session, row):
            yield row, uid


def count_without_digest(connection: Connection) -> int:
    """Return how many rows cannot be checked: those from before there were digests."""
    statements = [
        select(func.coalesce(func.sum(kind.chunks.n_attempts), 0)).where(
            kind.chunks.status == FINISHED, kind.chunks.digest.is_(None)
        )
        for kind in KINDS
    ]
    statements.append(select(func.count()).select_from(RhoBaseline).where(RhoBaseline.digest.is_(None)))
    return sum(connection.scalar(statement) or 0 for statement in statements)
