"""Column segments on their way in, and held against the rows that they come from."""

from typing import Any

from sqlalchemy import Connection, delete, select, text
from sqlalchemy.orm import Session

from jsdelta_db.store.bulk import driver_connection, is_sqlite
from jsdelta_db.store.columns import BLOBS, Segment, make_segments
from jsdelta_db.store.reading import Reader
from jsdelta_db.store.schema import FINISHED, Attack, Dataset, Evaluation, ScoreSegment
from jsdelta_db.store.write import insert_rows

COLUMNS = ("n", "success", "js_delta_min", "js_delta_max", *BLOBS)


def write_segments(session: Session, evaluation_id: int) -> int:
    """Store an evaluation's segments, made from its rows, in place of those that are there.

    Returns:
        How many attempts they hold.
    """
    # The driver's own rows: SQLAlchemy's take twice as long to fetch.
    reader = driver_connection(session) if is_sqlite(session) else session.connection()
    made = [_row(segment) for segment in _make(session.connection(), reader, evaluation_id)]
    session.execute(delete(ScoreSegment).where(ScoreSegment.evaluation_id == evaluation_id))
    rows = [(evaluation_id, position, *row) for position, row in enumerate(made)]
    insert_rows(session, ScoreSegment, ("evaluation_id", "position", *COLUMNS), rows)
    return sum(row[0] for row in made)


def list_without_segments(connection: Connection) -> list[int]:
    """Return the finished evaluations that have none, by id: an older version's, or imported ones."""
    with_segments = select(ScoreSegment.evaluation_id).distinct()
    statement = select(Evaluation.id).where(
        Evaluation.status == FINISHED, Evaluation.id.not_in(with_segments)
    )
    return list(connection.scalars(statement.order_by(Evaluation.id)))


def list_differing(connection: Connection) -> list[tuple[int, str]]:
    """Return id and uid of the finished evaluations whose segments are not what their rows make."""
    finished = select(Evaluation.id, Evaluation.uid).where(Evaluation.status == FINISHED)
    rows = connection.execute(finished.order_by(Evaluation.id)).all()
    return [(row.id, row.uid) for row in rows if differs(connection, row.id)]


def differs(connection: Connection, evaluation_id: int) -> bool:
    """Tell whether an evaluation's segments are missing, or not what its rows make."""
    statement = text(
        f"SELECT {', '.join(COLUMNS)} FROM score_segment "  # noqa: S608 names from the schema
        "WHERE evaluation_id = :id ORDER BY position"
    )
    stored = [tuple(row) for row in connection.execute(statement, {"id": evaluation_id})]
    return stored != [_row(segment) for segment in _make(connection, connection, evaluation_id)]


def _make(connection: Connection, reader: Reader, evaluation_id: int) -> list[Segment]:
    statement = (
        select(Evaluation.attack_id, Dataset.classes)
        .join(Attack, Attack.id == Evaluation.attack_id)
        .join(Dataset, Dataset.id == Attack.dataset_id)
        .where(Evaluation.id == evaluation_id)
    )
    attack_id, classes = connection.execute(statement).one()
    return make_segments(reader, evaluation_id=evaluation_id, attack_id=attack_id, n_classes=len(classes))


def _row(segment: Segment) -> tuple[Any, ...]:
    """Return what the table holds of a segment, in the order of ``COLUMNS``."""
    blobs = (getattr(segment, name).tobytes() for name in BLOBS)
    return segment.n, int(segment.success), segment.low, segment.high, *blobs
