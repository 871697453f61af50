"""Derived tables: segments and counts by image, made from an evaluation's rows and checked against them.

The transaction that finishes an evaluation stores its attempts once more as columns (``segments.py``) and
counts them by image (``image_counts.py``), so that bug queries do not read rows. Both tables come from
``sample`` and ``score`` alone: ``db check`` compares them, ``doctor --repair`` makes them again, exports
leave them out, and where they are missing queries read the rows.
"""

from typing import Any

from sqlalchemy import Connection, delete, select, text
from sqlalchemy.orm import Session

from jsdelta_db.store.checksums import SIZE, checksum, checksum_rows, pack_checksums
from jsdelta_db.store.image_counts import ImageCounts, count_images
from jsdelta_db.store.inserting import driver_connection, insert_rows, is_sqlite
from jsdelta_db.store.reading import Reader
from jsdelta_db.store.schema import FINISHED, Attack, Dataset, Evaluation, ImageCount, ScoreSegment
from jsdelta_db.store.segments import BLOBS, NUMBERS, Segment, make_segments

OF_SEGMENT = (*NUMBERS, "checksums", *BLOBS)
# Of a segment from before 0007 the later columns are null, and have no checksums.
N_FIRST = BLOBS.index("js_delta") + 1
MEMBER_JS = OF_SEGMENT.index("member_js")
OF_COUNTS = (*ImageCounts._fields, "crc32", "segments_crc32")


def write_segments(session: Session, evaluation_id: int) -> int:
    """Store or replace an evaluation's segments and counts by image, made from its rows.

    Returns:
        How many attempts they hold.
    """
    # Within the write transaction, which alone sees the rows that it has just written. Through the driver,
    # since SQLAlchemy takes twice as long to fetch rows.
    reader = driver_connection(session) if is_sqlite(session) else session.connection()
    segments, counts = _make(session.connection(), reader, evaluation_id)
    for table in (ScoreSegment, ImageCount):
        session.execute(delete(table).where(table.evaluation_id == evaluation_id))
    rows = [(evaluation_id, *row) for row in segments]
    insert_rows(session, ScoreSegment, ("evaluation_id", *OF_SEGMENT), rows)
    insert_rows(session, ImageCount, ("evaluation_id", *OF_COUNTS), [(evaluation_id, *counts)])
    return sum(row[NUMBERS.index("n")] for row in segments)


def list_without_segments(connection: Connection) -> list[int]:
    """Return the ids of finished evaluations without segments: an older version's, or imported ones."""
    with_segments = select(ImageCount.evaluation_id)
    statement = select(Evaluation.id).where(
        Evaluation.status == FINISHED, Evaluation.id.not_in(with_segments)
    )
    return list(connection.scalars(statement.order_by(Evaluation.id)))


def list_without_columns(connection: Connection) -> list[int]:
    """Return the ids of evaluations whose segments an older version made: their other columns are null."""
    statement = select(ScoreSegment.evaluation_id).where(ScoreSegment.member_js.is_(None)).distinct()
    return list(connection.scalars(statement.order_by(ScoreSegment.evaluation_id)))


def list_differing(connection: Connection) -> list[tuple[int, str]]:
    """Return id and uid of the finished evaluations whose segments do not match their rows."""
    finished = select(Evaluation.id, Evaluation.uid).where(Evaluation.status == FINISHED)
    rows = connection.execute(finished.order_by(Evaluation.id)).all()
    return [(row.id, row.uid) for row in rows if differs(connection, row.id)]


def differs(connection: Connection, evaluation_id: int) -> bool:
    """Tell whether an evaluation's segments or counts are missing or do not match its rows."""
    segments = _stored(connection, "score_segment", OF_SEGMENT, evaluation_id, "position")
    counts = _stored(connection, "image_count", OF_COUNTS, evaluation_id, "evaluation_id")
    made_segments, made_counts = _make(connection, connection, evaluation_id)
    if all(row[MEMBER_JS] is None for row in segments):
        made_segments = [_as_before(row) for row in made_segments]
    return (segments, counts) != (made_segments, [made_counts])


def _stored(
    connection: Connection, table: str, names: tuple[str, ...], evaluation_id: int, order: str
) -> list[tuple[Any, ...]]:
    statement = text(
        f"SELECT {', '.join(names)} FROM {table} "  # noqa: S608 names from the schema
        f"WHERE evaluation_id = :id ORDER BY {order}"
    )
    return [tuple(row) for row in connection.execute(statement, {"id": evaluation_id})]


def _make(
    connection: Connection, reader: Reader, evaluation_id: int
) -> tuple[list[tuple[Any, ...]], tuple[Any, ...]]:
    """Return the rows of both tables, without the evaluation's id."""
    statement = (
        select(Evaluation.attack_id, Dataset.classes)
        .join(Attack, Attack.id == Evaluation.attack_id)
        .join(Dataset, Dataset.id == Attack.dataset_id)
        .where(Evaluation.id == evaluation_id)
    )
    attack_id, classes = connection.execute(statement).one()
    made = make_segments(reader, evaluation_id=evaluation_id, attack_id=attack_id, n_classes=len(classes))
    segments, counts = [_row(*each) for each in enumerate(made)], count_images(made)
    crc32 = checksum((evaluation_id, counts.n_undefined, counts.bits), (counts.success, counts.failure))
    of_segments = checksum_rows(row[: len(NUMBERS)] for row in segments)
    return segments, (*counts, crc32, of_segments)


def _as_before(row: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return a segment's row as it was before 0007."""
    numbers, checksums, blobs = row[: len(NUMBERS)], row[len(NUMBERS)], row[len(NUMBERS) + 1 :]
    return *numbers, checksums[: N_FIRST * SIZE], *blobs[:N_FIRST], *[None] * (len(blobs) - N_FIRST)


def _row(position: int, segment: Segment) -> tuple[Any, ...]:
    """Return a segment as a row of its table, in the order of ``OF_SEGMENT``."""
    columns = [getattr(segment, name) for name in BLOBS]
    blobs = [None if column is None else column.tobytes() for column in columns]
    numbers = position, segment.n, int(segment.success), segment.low, segment.high
    return *numbers, pack_checksums(blobs), *blobs
