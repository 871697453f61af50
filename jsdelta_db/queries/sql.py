"""SQL of the user's own: one SELECT, read-only whatever its text, with a timeout."""

import datetime
import json
import math
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from types import MappingProxyType
from typing import Any

from jsdelta_db.config.locations import sqlite_file
from jsdelta_db.errors import StoreError
from jsdelta_db.queries.catalogue import explain_missing, query_catalogue
from jsdelta_db.queries.sql_functions import FAILED, add_functions
from jsdelta_db.queries.sql_statement import check_parameters, check_start, refused, stopped
from jsdelta_db.store.reading import reading
from jsdelta_db.store.sqlite import TRY_SECONDS

ALLOWED = (sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE)
DESCRIBING = ("table_info", "table_xinfo", "table_list", "index_list", "index_info", "foreign_key_list")
STEPS_BETWEEN_CHECKS = 10_000  # of SQLite's virtual machine: far below a millisecond
# SQLite's codes for errors in the statement itself; other errors are those of the store.
OF_THE_STATEMENT = (sqlite3.SQLITE_ERROR, sqlite3.SQLITE_AUTH, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_TOOBIG)


@dataclass(frozen=True, slots=True)
class Result:
    """The result of a statement: numbers, texts and None; BLOBs in hex."""

    columns: tuple[str, ...]
    rows: list[tuple[Any, ...]]


Values = Mapping[str, int | float | str]


def query_sql(
    url: str,
    statement: str,
    timeout: float,
    values: Values = MappingProxyType({}),
) -> Result:
    """Run one reading statement.

    SQLite: a connection opened read-only, whose authorizer permits only reading. PostgreSQL: a
    READ ONLY transaction, rolled back, and a prepared statement, which cannot be several.

    Args:
        timeout: seconds until it is stopped.
        values: of its parameters, ``:name``.

    Raises:
        UsageError: it is not one statement that reads, or the database refuses it.
        StoreError: it took too long, or the store cannot be read.
    """
    check_start(statement)
    check_parameters(statement, values)
    with reading(url) as reader:
        path = sqlite_file(url)
        if path is None:
            from jsdelta_db.queries.sql_postgresql import run

            columns, rows = run(reader, statement, timeout, values)  # type: ignore[arg-type]
        else:
            # The reader stays open beside it: only a connection that may write removes the -wal file.
            columns, rows = _run(path, statement, timeout, values)
    return Result(tuple(columns), [tuple(map(_plain, row)) for row in rows])


def _run(
    path: Path, statement: str, timeout: float, values: Values
) -> tuple[Sequence[str], Sequence[Sequence[Any]]]:
    deadline = time.monotonic() + timeout
    with closing(_connect(path)) as connection, _translating(connection, statement, timeout):
        add_functions(connection)
        connection.set_authorizer(_authorize)
        connection.set_progress_handler(lambda: time.monotonic() > deadline, STEPS_BETWEEN_CHECKS)
        cursor = connection.execute(statement, dict(values))
        rows = cursor.fetchall()
        return [column[0] for column in cursor.description or ()], rows


def _connect(path: Path) -> sqlite3.Connection:
    """Open a file read-only, on read-only media too, where WAL has no room for its own files."""
    for mode in ("mode=ro", "mode=ro&immutable=1"):
        connection = sqlite3.connect(
            f"{path.absolute().as_uri()}?{mode}", uri=True, timeout=TRY_SECONDS, isolation_level=None
        )
        connection.text_factory = lambda content: content.decode(errors="replace")
        try:
            connection.execute("SELECT 1 FROM sqlite_master")
        except sqlite3.OperationalError:
            connection.close()
            continue
        return connection
    from jsdelta_db.runtime.reasons import explain, find_fault

    advice = "check the file, its folder and its rights"
    fault = find_fault(path)
    raise StoreError(f"{path} cannot be opened to read: {explain(fault, advice) if fault else advice}")


def _authorize(action: int, first: str | None, second: str | None, *_: str | None) -> int:
    """Authorize read-only SQLite operations, among them listing a table's columns."""
    if action == sqlite3.SQLITE_FUNCTION:
        return sqlite3.SQLITE_DENY if second in ("load_extension", "fts3_tokenizer") else sqlite3.SQLITE_OK
    describes = action == sqlite3.SQLITE_PRAGMA and (first or "").lower() in DESCRIBING
    return sqlite3.SQLITE_OK if describes or action in ALLOWED else sqlite3.SQLITE_DENY


@contextmanager
def _translating(connection: sqlite3.Connection, statement: str, timeout: float) -> Iterator[None]:
    """Raise SQLite's errors in the statement, and its timeout, as errors of ours."""
    try:
        yield
    except (sqlite3.Warning, sqlite3.ProgrammingError) as error:
        raise refused(error) from None
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code == sqlite3.SQLITE_INTERRUPT:
            raise stopped(timeout) from None
        if str(error) == FAILED:
            raise refused("quantile(x, q)", advice="q must be a number from 0 to 1") from None
        if code in OF_THE_STATEMENT:
            connection.set_authorizer(None)
            raise refused(
                error, explain_missing(str(error), statement, query_catalogue(connection))
            ) from None
        raise


def _plain(value: Any) -> Any:  # noqa: ANN401 whatever the database returns
    """Return a value that every output format can show."""
    if isinstance(value, bytes | memoryview):
        return bytes(value).hex()
    if isinstance(value, Decimal):
        value = int(value) if value.is_finite() and value == value.to_integral_value() else float(value)
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)  # JSON has no such number
    if isinstance(value, list | dict):
        return json.dumps(value, ensure_ascii=False, default=str)
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    return value if isinstance(value, int | float | str | None) else str(value)
