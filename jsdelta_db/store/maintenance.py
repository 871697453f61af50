"""Looking after a store: what it holds, and whether it holds together."""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, func, select, text

from jsdelta_db.store.schema import (
    FINISHED,
    Attack,
    AttackChunk,
    Base,
    Dataset,
    Ensemble,
    Evaluation,
    EvaluationChunk,
    Model,
    ModelLogits,
    Sample,
    Score,
)


def count_rows(connection: Connection) -> list[dict[str, Any]]:
    """Return each table with its number of rows."""
    return [
        {"table": name, "rows": connection.scalar(select(func.count()).select_from(table))}
        for name, table in sorted(Base.metadata.tables.items())
    ]


def count_states(connection: Connection) -> list[dict[str, Any]]:
    """Return how many models, ensembles, evaluations and chunks are in each state."""
    rows = []
    for table in (Model, Ensemble, Evaluation, AttackChunk, EvaluationChunk):
        statement = select(table.status, func.count()).group_by(table.status).order_by(table.status)
        rows += [
            {"kind": table.__tablename__, "status": status, "rows": count}
            for status, count in connection.execute(statement)
        ]
    return rows


def size_in_bytes(connection: Connection) -> int:
    """Return how large the database is."""
    if connection.dialect.name == "sqlite":
        pages, page_size = (connection.scalar(text(f"PRAGMA {name}")) for name in ("page_count", "page_size"))
        return int(pages * page_size)
    return int(connection.scalar(text("SELECT pg_database_size(current_database())")) or 0)


def find_problems(connection: Connection, root: Path) -> Iterator[str]:
    """Yield one line for whatever does not hold together.

    Looks at the database's own integrity, the rows of finished evaluations against their plan, scores
    against samples, and files against their hashes.

    Args:
        root: the workspace that file paths are relative to.
    """
    if connection.dialect.name == "sqlite":
        for (line,) in connection.execute(text("PRAGMA integrity_check")):
            if line != "ok":
                yield f"database: {line}"
        for table, *_ in connection.execute(text("PRAGMA foreign_key_check")):
            yield f"database: a row of {table} points to one that is not there"
    yield from _check_evaluations(connection)
    yield from _check_files(connection, root)


def _check_evaluations(connection: Connection) -> Iterator[str]:
    statement = (
        select(Evaluation.id, Evaluation.uid, Evaluation.attack_id, Attack.n_attempts)
        .join(Attack, Attack.id == Evaluation.attack_id)
        .where(Evaluation.status == FINISHED)
    )
    for evaluation_id, uid, attack_id, planned in connection.execute(statement).all():
        of_evaluation, of_attack = Score.evaluation_id == evaluation_id, Sample.attack_id == attack_id
        scores = connection.scalar(select(func.count()).select_from(Score).where(of_evaluation))
        samples = connection.scalar(select(func.count()).select_from(Sample).where(of_attack))
        matched = connection.scalar(
            select(func.count())
            .select_from(Score)
            .join(
                Sample,
                (Sample.sample_index == Score.sample_index)
                & (Sample.requested_target == Score.requested_target),
            )
            .where(of_evaluation, of_attack)
        )
        if not scores == samples == matched == planned:
            yield (
                f"evaluation {uid}: {planned} attempts planned, {samples} samples, {scores} scores, "
                f"{matched} of them belong together"
            )


def _check_files(connection: Connection, root: Path) -> Iterator[str]:
    statements = (
        select(Model.checkpoint_uri, Model.checkpoint_sha256).where(Model.status == FINISHED),
        select(ModelLogits.uri, ModelLogits.sha256),
        select(Dataset.uri, Dataset.sha256).where(Dataset.uri.is_not(None), Dataset.status == FINISHED),
        select(AttackChunk.uri, AttackChunk.sha256).where(AttackChunk.status == FINISHED),
        select(EvaluationChunk.uri, EvaluationChunk.sha256).where(EvaluationChunk.status == FINISHED),
    )
    for statement in statements:
        for uri, sha256 in connection.execute(statement):
            path = root / str(uri)
            if not path.is_file():
                yield f"file {uri}: missing"
            elif _sha256(path) != sha256:
                yield f"file {uri}: altered or cut short"


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
