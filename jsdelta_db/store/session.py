"""Sessions: a store's engine, its transactions, and the check of its schema's revision."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, inspect, text
from sqlalchemy.exc import DBAPIError, NoSuchModuleError, OperationalError, SQLAlchemyError
from sqlalchemy.orm import Session
from sqlalchemy.pool import NullPool, QueuePool

from jsdelta_db.errors import NoStoreError, StoreError, StoreNotReadyError, UsageError
from jsdelta_db.runtime.reasons import explain, find_fault
from jsdelta_db.runtime.redaction import redact
from jsdelta_db.store.addresses import QUOTING, parse_url, show_url, sqlite_path
from jsdelta_db.store.constants import HEAD_REVISION, VERSION_TABLE
from jsdelta_db.store.sqlite import TRY_SECONDS, connect_read_only, is_locked, patiently


class Store:
    """A database with jsdelta's tables; open it with :func:`open_store` or :func:`open_for_writing`."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    @property
    def is_sqlite(self) -> bool:
        """Whether the store is a SQLite file."""
        return self.engine.dialect.name == "sqlite"

    @contextmanager
    def transaction(self) -> Iterator[Session]:
        """Write: commit when the block ends, roll back when it raises.

        On SQLite the lock is taken at the start (BEGIN IMMEDIATE), so that writers queue instead of
        failing half-way.
        """
        with Session(self.engine, expire_on_commit=False) as session, session.begin():
            session.connection(execution_options={"jsdelta_write": True})
            yield session

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Read everything as it was at one time, however long it takes."""
        engine = self.engine  # SQLite: a transaction sees one snapshot
        if not self.is_sqlite:
            engine = engine.execution_options(isolation_level="REPEATABLE READ")
        with engine.connect() as connection:
            yield connection

    @contextmanager
    def read_session(self) -> Iterator[Session]:
        """Read rows as they were at one time; never takes the write lock, and changes are not stored."""
        with self.reading() as connection, Session(connection, expire_on_commit=False) as session:
            yield session

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()


def open_store(url: str | URL) -> Store:
    """Open an existing store for reading; create nothing.

    Raises:
        NoStoreError: there is none yet.
        StoreNotReadyError: its schema is of another revision.
        StoreError: it cannot be reached, or belongs to something else.
    """
    parsed = parse_url(url)
    path = sqlite_path(parsed)
    if path is not None and not path.exists():
        raise NoStoreError(f"no store at {path}; make one with jsdelta quickstart or jsdelta train --seed 0")
    return checked_store(make_engine(parsed, read_only=True), parsed)


@contextmanager
def reading_store(url: str) -> Iterator[Connection]:
    """Open a snapshot of a store for one query; close it when the block ends.

    Raises:
        StoreNotReadyError, StoreError: as :func:`open_store`; the database's own errors come as one line.
    """
    store = open_store(url)
    try:
        with reporting(parse_url(url)), store.reading() as connection:
            yield connection
    finally:
        store.close()


def checked_store(engine: Engine, url: URL) -> Store:
    """Return a store on an engine; its revision is checked first, as by :func:`check_revision`."""
    try:
        with reporting(url), engine.connect() as connection:
            check_revision(connection, url)
    except BaseException:
        engine.dispose()
        raise
    return Store(engine)


def make_engine(url: URL, *, read_only: bool = False) -> Engine:
    """Create an engine, without connecting yet.

    Raises:
        UsageError: the driver is not installed.
    """
    path = sqlite_path(url)
    if path is None:
        try:
            engine = create_engine(url, pool_pre_ping=True)
        except (ModuleNotFoundError, NoSuchModuleError):
            raise UsageError(
                "PostgreSQL needs a driver; install it with pip install 'jsdelta[postgres]'"
            ) from None
        from jsdelta_db.store.postgresql import limit_waiting

        limit_waiting(engine, show_url(url))
        return engine

    def connect() -> sqlite3.Connection:
        # Autocommit: BEGIN is sent below. Threads: the heartbeat has a connection of its own.
        options: dict[str, Any] = {
            "timeout": TRY_SECONDS,
            "isolation_level": None,
            "check_same_thread": False,
        }
        if not read_only:
            connection: sqlite3.Connection = sqlite3.connect(path, **options)
            return connection
        return connect_read_only(path, **options)

    # The last connection to close empties the write-ahead log into the file and waits for the disk: a writer
    # keeps a connection open between its transactions.
    pool = NullPool if read_only else QueuePool
    engine = create_engine("sqlite://", creator=connect, poolclass=pool)

    @event.listens_for(engine, "connect")
    def _set_pragmas(connection: sqlite3.Connection, _: object) -> None:
        connection.execute("PRAGMA foreign_keys = ON")
        if not read_only:
            patiently(lambda: connection.execute("PRAGMA journal_mode = WAL"), path)
            connection.execute("PRAGMA synchronous = NORMAL")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        write = connection.get_execution_options().get("jsdelta_write", False)
        if not write:
            connection.exec_driver_sql("BEGIN")
            return
        raw, statement = connection.connection, "BEGIN IMMEDIATE"
        try:
            patiently(lambda: raw.driver_connection.execute(statement), path)  # type: ignore[union-attr]
        except sqlite3.OperationalError as error:
            raise DBAPIError.instance(statement, None, error, sqlite3.Error) from error

    return engine


def check_revision(connection: Connection, url: URL) -> None:
    """Check that the schema has this version's revision, by plain SQL.

    Raises:
        StoreNotReadyError: it is empty, older or newer.
        StoreError: the database belongs to something else.
    """
    name = show_url(url)
    found = find_revision(connection)
    if found == HEAD_REVISION:
        return
    if found is None:
        refuse_foreign(connection, url)
        raise StoreNotReadyError(f"{name} holds no jsdelta tables yet; run jsdelta db upgrade")
    if found < HEAD_REVISION:
        raise StoreNotReadyError(
            f"{name} has schema {found}, this version needs {HEAD_REVISION}; run jsdelta db upgrade"
        )
    raise StoreNotReadyError(
        f"{name} has schema {found}, newer than this version's {HEAD_REVISION}; update jsdelta"
    )


def find_revision(connection: Connection) -> str | None:
    """Return the schema's revision, None where there is no version table or it is empty."""
    if not inspect(connection).has_table(VERSION_TABLE):
        return None
    found: str | None = connection.execute(text(f"SELECT version_num FROM {VERSION_TABLE}")).scalar()  # noqa: S608 a constant
    return found


def refuse_foreign(connection: Connection, url: URL) -> None:
    """Refuse a database without our version table that holds other tables.

    Raises:
        StoreError: names the likely owner.
    """
    tables = set(inspect(connection).get_table_names()) - {VERSION_TABLE}
    if not tables:
        return
    whose = (
        "MLflow"
        if {"experiments", "runs"} <= tables
        else f"something else ({', '.join(sorted(tables)[:3])} …)"
    )
    raise StoreError(
        f"{show_url(url)} belongs to {whose}, not to jsdelta; point JSDELTA_DB_URL to a database of its own"
    )


@contextmanager
def reporting(url: URL) -> Iterator[None]:
    """Raise the database's own errors as StoreError, one line that names the store."""
    try:
        yield
    except SQLAlchemyError as error:
        raise translate(error, url) from error


def translate(error: SQLAlchemyError, url: URL) -> StoreError:
    """Return the one-line error for an error of the database."""
    cause = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    reason = (str(cause).strip().splitlines() or [type(cause).__name__])[0]
    path = sqlite_path(url)
    if path is None:
        reason = redact(reason, [url.render_as_string(hide_password=False)])
        if "authentication failed" in reason:
            return StoreError(f"{show_url(url)} refuses the user or the password ({reason}); {QUOTING}")
        verb = "cannot be reached" if isinstance(error, OperationalError) else "failed"
        return StoreError(f"{show_url(url)} {verb}: {reason}; check JSDELTA_DB_URL and that the server runs")
    if "not a database" in reason or "malformed" in reason:
        return StoreError(f"{path} is damaged or no SQLite file ({reason}); restore a backup")
    if is_locked(cause):
        return StoreError(
            f"{path} is locked: another process writes it; wait for it or stop it, then run the command again"
        )
    fault = find_fault(path) if is_of_the_disk(cause) else None
    if fault is None and "full" in reason:
        return StoreError(f"{path} cannot grow: {reason}; free some space and run the same command again")
    advice = "check the file, its folder and its rights"
    why = explain(fault, advice) if fault else f"{reason}; {advice}"
    return StoreError(f"{path} cannot be opened or written: {why}")


def is_of_the_disk(error: BaseException) -> bool:
    """Return whether SQLite could not use a file without knowing why."""
    name = str(getattr(error, "sqlite_errorname", ""))
    return name.startswith(("SQLITE_IOERR", "SQLITE_CANTOPEN", "SQLITE_FULL", "SQLITE_READONLY"))
