"""Reading for one query, fast: importing SQLAlchemy takes longer than most queries.

A SQLite store in good order is read through the standard library. Everything else (no file, another
revision, a server's URL) goes through :mod:`jsdelta_db.store.session`, which has the error messages. So
queries are plain SQL with bound names, which both readers take.
"""

import gc
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any, TypeAlias, Union

from jsdelta_db.config.locations import sqlite_file
from jsdelta_db.store.constants import HEAD_REVISION, VERSION_TABLE
from jsdelta_db.store.sqlite import TRY_SECONDS, connect_read_only

if TYPE_CHECKING:
    from sqlalchemy import Connection

BATCH_ROWS = 20_000

Reader: TypeAlias = Union[sqlite3.Connection, "Connection"]


@contextmanager
def reading(url: str) -> Iterator[Reader]:
    """Open a store for reading; create nothing.

    Raises:
        NoStoreError: there is none yet.
        StoreNotReadyError: its schema is of another revision.
        StoreError: it cannot be reached or read, or belongs to something else.
    """
    connection = _open_quickly(url)
    if connection is None:
        from jsdelta_db.store.session import reading_store

        with reading_store(url) as slower:
            yield slower
        return
    with closing(connection):
        try:
            yield connection
        except sqlite3.Error as error:
            from sqlalchemy.exc import DBAPIError

            from jsdelta_db.store.addresses import parse_url
            from jsdelta_db.store.session import translate

            raise translate(DBAPIError("", None, error), parse_url(url)) from error


def fetch(reader: Reader, sql: str, **values: object) -> Sequence[tuple[Any, ...]]:
    """Return the rows of a SELECT; values are bound to ``:name``."""
    if isinstance(reader, sqlite3.Connection):
        return reader.execute(sql, values).fetchall()
    from sqlalchemy import text

    return [tuple(row) for row in reader.execute(text(sql), values).all()]  # one by one takes twice as long


def fetch_batches(reader: Reader, sql: str, **values: object) -> Iterator[Sequence[tuple[Any, ...]]]:
    """Yield the rows of a SELECT in batches: as Python objects they take far more memory than as arrays."""
    if isinstance(reader, sqlite3.Connection):
        cursor = reader.execute(sql, values)
        while rows := cursor.fetchmany(BATCH_ROWS):
            yield rows
        return
    from sqlalchemy import text

    for part in reader.execute(text(sql), values).partitions(BATCH_ROWS):
        yield [tuple(row) for row in part]


def fetch_many(reader: Reader, sql: str) -> Sequence[tuple[Any, ...]]:
    """Return the rows of a SELECT without values straight from the driver: for thousands of rows or blobs.

    In PostgreSQL's binary format: psycopg's default is text, in which a byte takes two and is parsed again.
    """
    driver: Any = reader if isinstance(reader, sqlite3.Connection) else reader.connection.driver_connection
    if isinstance(driver, sqlite3.Connection):
        return driver.execute(sql).fetchall()
    from jsdelta_db.store.inserting import translated

    with translated(type(driver).Error, sql), driver.cursor(binary=True) as cursor:
        rows: Sequence[tuple[Any, ...]] = cursor.execute(sql).fetchall()
        return rows


@contextmanager
def without_collecting() -> Iterator[None]:
    """Disable the cyclic garbage collector during a query.

    A query makes tens of thousands of small objects and no cycle; the collector would go through all objects
    of the process again and again, for a third of the query's time.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _open_quickly(url: str) -> sqlite3.Connection | None:
    """Return a snapshot of a SQLite store at our revision; None where the slow way has to explain."""
    path = sqlite_file(url)
    if path is None or not path.is_file():
        return None
    try:
        connection = connect_read_only(path, timeout=TRY_SECONDS, isolation_level=None)
    except sqlite3.Error:
        return None
    try:
        connection.execute("BEGIN")
        (found,) = connection.execute(f"SELECT version_num FROM {VERSION_TABLE}").fetchone()  # noqa: S608 a constant
    except (sqlite3.Error, TypeError):  # TypeError: the table is empty
        found = None
    if found == HEAD_REVISION:
        return connection
    connection.close()
    return None
