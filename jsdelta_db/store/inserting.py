"""Bulk inserts through each database's driver.

``executemany`` of sqlite3, and PostgreSQL's binary COPY, which falls back to single inserts where a key is
there already. SQLAlchemy takes as long to pass rows on as SQLite takes to store them.
"""

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from sqlalchemy import BigInteger, Boolean, DateTime, Double, Integer, LargeBinary, SmallInteger, Text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from jsdelta_db.store.schema import Base

ROWS_A_STATEMENT = 1000  # of values in its text: SQLite takes 32,766 of them
FEWEST = 100  # rows from which on PostgreSQL's COPY is faster
# PostgreSQL's names of the schema's types, the narrower first: a SmallInteger is an Integer, too.
TYPES = (
    (SmallInteger, "int2"), (BigInteger, "int8"), (Integer, "int4"), (Double, "float8"), (Text, "text"),
    (LargeBinary, "bytea"), (Boolean, "bool"), (DateTime, "timestamptz"),
)  # fmt: skip


def is_sqlite(session: Session) -> bool:
    """Tell whether a session writes to SQLite."""
    return session.get_bind().dialect.name == "sqlite"


def driver_connection(session: Session) -> Any:  # noqa: ANN401 sqlite3's or psycopg's
    """Return the driver's connection of a session's transaction."""
    return session.connection().connection.driver_connection


@contextmanager
def translated(errors: type[Exception], statement: str) -> Iterator[None]:
    """Raise the driver's errors as SQLAlchemy does."""
    try:
        yield
    except errors as error:
        raise DBAPIError.instance(statement, None, error, errors) from error


def copy_rows(
    session: Session, table: type[Base], columns: Sequence[str], rows: Sequence[tuple[Any, ...]]
) -> bool:
    """Store rows by PostgreSQL's binary COPY.

    Returns:
        Whether they are stored. None are if they are few, if a column's type is not in ``TYPES``, or if a key
        is there already: COPY cannot skip a row.
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


def insert_rows(
    session: Session, table: type[Base], columns: Sequence[str], rows: Sequence[tuple[Any, ...]]
) -> None:
    """Insert rows of plain Python values; rows whose key is there already stay as they are."""
    if not rows:
        return
    mark = "?" if is_sqlite(session) else "%s"
    statement = (
        f"INSERT INTO {table.__tablename__} ({', '.join(columns)}) "  # noqa: S608 names from the schema
        f"VALUES ({', '.join([mark] * len(columns))}) ON CONFLICT DO NOTHING"
    )
    connection = driver_connection(session)
    if is_sqlite(session):
        with translated(sqlite3.Error, statement):
            connection.executemany(statement, rows)
    elif not copy_rows(session, table, columns, rows):
        session.connection().exec_driver_sql(statement, list(rows))


def replace_rows(session: Session, table: type[Base], rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert rows or replace those of the same key: two processes may store the same."""
    insert = sqlite.insert if is_sqlite(session) else postgresql.insert
    key = [column.name for column in table.__table__.primary_key]
    for start in range(0, len(rows), ROWS_A_STATEMENT):
        statement = insert(table).values(list(rows[start : start + ROWS_A_STATEMENT]))
        values = {name: statement.excluded[name] for name in rows[0] if name not in key}
        session.execute(statement.on_conflict_do_update(index_elements=key, set_=values))
