"""Runs: rows found or created, claimed, released and finished."""

import hashlib
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeVar

from sqlalchemy import func, select, text, update
from sqlalchemy.orm import Session

from jsdelta_db.errors import StoreError
from jsdelta_db.runtime.leases import current_owner, is_alive
from jsdelta_db.store.clock import read_clock
from jsdelta_db.store.constants import BUILTIN
from jsdelta_db.store.derived import write_segments
from jsdelta_db.store.schema import (
    FINISHED,
    LEASED,
    PENDING,
    RUNNING,
    Attack,
    AttackChunk,
    Dataset,
    Ensemble,
    Evaluation,
    EvaluationChunk,
    Lease,
    Model,
    Score,
)

RunRow = TypeVar("RunRow", Model, Ensemble, Attack, Evaluation)
LeasedRow = TypeVar("LeasedRow", Dataset, Model)


def new_uid() -> str:
    """Draw a uid: 16 hex digits."""
    return secrets.token_hex(8)


def now() -> datetime:
    """Return the time, in UTC."""
    return datetime.now(UTC)


def serialize(session: Session, key: str) -> None:
    """Serialize transactions from here on, by key.

    SQLite's writers already queue from their BEGIN IMMEDIATE; PostgreSQL gets an advisory lock.
    """
    if session.get_bind().dialect.name == "postgresql":
        number = int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest(), "big", signed=True)
        session.execute(text("SELECT pg_advisory_xact_lock(:number)"), {"number": number})


def find_run(session: Session, table: type[RunRow], config_hash: str) -> RunRow | None:
    """Return the row of a configuration, None if there is none."""
    return session.scalars(select(table).where(table.config_hash == config_hash).order_by(table.id)).first()


def find_or_create(
    session: Session, table: type[RunRow], config_hash: str, make: Callable[[], RunRow]
) -> RunRow:
    """Return the row of a configuration; processes that start together share one."""
    serialize(session, config_hash)
    found = find_run(session, table, config_hash)
    if found is not None:
        return found
    row = make()
    row.uid, row.config_hash, row.created_at = new_uid(), config_hash, now()
    session.add(row)
    session.flush()
    return row


def ensure_dataset(session: Session, *, name: str, classes: Sequence[str], fingerprint: str) -> Dataset:
    """Return a builtin data set's row; its uid, the start of its fingerprint, is the same in every store."""
    serialize(session, fingerprint)
    uid = fingerprint[:16]
    found = session.scalars(select(Dataset).where(Dataset.uid == uid)).first()
    if found is None:
        found = Dataset(
            uid=uid, config_hash=fingerprint, created_at=now(), finished_at=now(), name=name, kind=BUILTIN,
            fingerprint=fingerprint, classes=list(classes), status=FINISHED,
        )  # fmt: skip
        session.add(found)
        session.flush()
    return found


def is_free(lease: Lease, now: float) -> bool:
    """Tell whether a row is unfinished and no live process works on it.

    Args:
        now: by the store's clock.
    """
    return lease.status != FINISHED and not (
        lease.status == RUNNING and is_alive(lease.owner, lease.heartbeat_at, now)
    )


def take(lease: Lease, now: float) -> None:
    """Make this process a row's owner."""
    lease.status, lease.owner, lease.heartbeat_at = RUNNING, current_owner(), now


def hold(lease: Lease, now: float) -> None:
    """Keep a row from being deleted while this process works on it: one of several may hold it for all."""
    if is_free(lease, now):
        take(lease, now)


def leave(lease: Lease, status: str) -> None:
    """Release a row in a given state."""
    lease.status, lease.owner, lease.heartbeat_at = status, None, None


def release_all(session: Session) -> None:
    """Release all that this process still holds, so that the next one need not wait."""
    for table in LEASED:
        session.execute(
            update(table)
            .where(table.owner == current_owner(), table.status == RUNNING)
            .values(status=PENDING, owner=None, heartbeat_at=None)
        )


@dataclass(frozen=True, slots=True)
class ChunkWork:
    """A claimed chunk: to attack and score, or only to score."""

    position: int
    to_attack: bool


def claim_chunk(session: Session, attack: Attack, evaluation: Evaluation) -> ChunkWork | str | None:
    """Claim the first free chunk of an evaluation.

    Returns:
        The work; the owner to wait for, if live processes hold all that is left; None if nothing is left.
    """
    serialize(session, f"chunks of {attack.uid}")
    now = read_clock(session)
    hold(session.get_one(Evaluation, evaluation.id, populate_existing=True), now)
    rows = session.execute(
        select(AttackChunk, EvaluationChunk)
        .join(EvaluationChunk, EvaluationChunk.position == AttackChunk.position)
        .where(
            AttackChunk.attack_id == attack.id,
            EvaluationChunk.evaluation_id == evaluation.id,
            EvaluationChunk.status != FINISHED,
        )
        .order_by(AttackChunk.position)
    ).all()
    busy = None
    for attack_chunk, evaluation_chunk in rows:
        attacked = attack_chunk.status == FINISHED
        if not is_free(evaluation_chunk, now):
            busy = evaluation_chunk.owner
        elif not attacked and not is_free(attack_chunk, now):
            busy = attack_chunk.owner
        else:
            take(evaluation_chunk, now)
            if not attacked:
                take(attack_chunk, now)
            return ChunkWork(attack_chunk.position, to_attack=not attacked)
    return busy


def finish_chunk(chunk: AttackChunk | EvaluationChunk, *, uri: str, sha256: str, digest: str) -> None:
    """Mark a chunk finished, in the transaction that writes its rows, whose digest is given."""
    leave(chunk, FINISHED)
    chunk.uri, chunk.sha256, chunk.digest = uri, sha256, digest


def finish_evaluation(session: Session, attack: Attack, evaluation: Evaluation) -> bool:
    """Mark an evaluation finished, if it has the planned rows, and store its segments.

    Returns:
        Whether nobody had before: then it is for the caller to log it, and until that is done the row has
        no run's id.

    Raises:
        StoreError: rows are missing or too many; nothing is marked.
    """
    serialize(session, f"chunks of {attack.uid}")
    stored, stored_attack = session.get_one(Evaluation, evaluation.id), session.get_one(Attack, attack.id)
    if stored.status == FINISHED:
        return False  # another process that worked on it came first
    n_scores = session.scalar(
        select(func.count()).select_from(Score).where(Score.evaluation_id == evaluation.id)
    )
    n_matched = write_segments(session, evaluation.id)
    if not n_scores == n_matched == attack.n_attempts:
        raise StoreError(
            f"evaluation {evaluation.uid} has {n_scores} scores, {n_matched} of them with their sample; "
            f"{attack.n_attempts} were planned; see jsdelta db check"
        )
    stored.finished_at, stored.mlflow_run_id = now(), None
    leave(stored, FINISHED)
    if stored_attack.finished_at is None:
        stored_attack.finished_at = now()
    return True
