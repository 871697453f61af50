"""Many rows at once, through each database's own door: what SQLAlchemy has no words for."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from sqlalchemy import BigInteger, Boolean, DateTime, Double, Integer, LargeBinary, SmallInteger, Text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from jsdelta_db.store.schema import Base

FEWEST = 100  # rows for which PostgreSQL's COPY pays
# What PostgreSQL calls the schema's types, the narrower first: a SmallInteger is an Integer, too.
TYPES = (
    (SmallInteger, "int2"), (BigInteger, "int8"), (Integer, "int4"), (Double, "float8"), (Text, "text"),
    (LargeBinary, "bytea"), (Boolean, "bool"), (DateTime, "timestamptz"),
)  # fmt: skip


def is_sqlite(session: Session) -> bool:
    """Tell which of the two databases a session writes to."""
    return session.get_bind().dialect.name == "sqlite"


def driver_connection(session: Session) -> Any:  # noqa: ANN401 sqlite3's or psycopg's
    """Return the driver's connection that the session's transaction runs on."""
    return session.connection().connection.driver_connection


@contextmanager
def translated(errors: type[Exception], statement: str) -> Iterator[None]:
    """Let the driver's errors look as if they had come through SQLAlchemy."""
    try:
        yield
    except errors as error:
        raise DBAPIError.instance(statement, None, error, errors) from error


def copy_rows(
    session: Session, table: type[Base], columns: Sequence[str], rows: Sequence[tuple[Any, ...]]
) -> bool:
    """Store rows by PostgreSQL's binary COPY.

    Returns:
        Whether they are stored; nothing is, where they are few, where COPY has no word for a column's
        type, or where a key is there already: COPY can not skip a row.
    """
    types = [_type_name(table, name) for name in columns]
    if len(rows) < FEWEST or None in types:
        return False
    import psycopg

    statement = f"COPY {table.__tablename__} ({', '.join(columns)}) FROM STDIN (FORMAT BINARY)"
    savepoint = session.begin_nested()
    try:
        with (
            translated(psycopg.Error, statement),
            driver_connection(session).cursor() as cursor,
            cursor.copy(statement) as copy,
        ):
            copy.set_types(types)
            for row in rows:
                copy.write_row(row)
    except DBAPIError as error:
        if not isinstance(error.orig, psycopg.errors.UniqueViolation):
            raise
        savepoint.rollback()
        return False
    savepoint.commit()
    return True


def _type_name(table: type[Base], column: str) -> str | None:
    of_column = table.__table__.columns[column].type
    return next((name for kind, name in TYPES if isinstance(of_column, kind)), None)
