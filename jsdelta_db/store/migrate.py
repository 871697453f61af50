"""Migrations: Alembic driven from Python, without its configuration file and log lines."""

import sqlite3
from contextlib import closing
from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, Engine, text

from jsdelta_db.errors import StoreError, StoreNotReadyError
from jsdelta_db.runtime.files import replace_file
from jsdelta_db.runtime.reasons import explain, find_fault
from jsdelta_db.store.addresses import parse_url, show_url, sqlite_path
from jsdelta_db.store.derived import list_without_segments, write_segments
from jsdelta_db.store.schema import HEAD_REVISION
from jsdelta_db.store.session import Store, find_revision, make_engine, refuse_foreign, reporting

UPGRADE_LOCK = 2601_00577  # of PostgreSQL's advisory locks


def alembic_config(connection: Connection | None = None) -> Config:
    """Return Alembic's configuration; ``env.py`` takes the connection from its attributes."""
    config = Config()
    config.set_main_option("script_location", "jsdelta_db.migrations:")
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config


def upgrade(url: str, revision: str = "head") -> tuple[str | None, Path | None]:
    """Migrate a store in one transaction; a failed migration leaves it as it was.

    An existing SQLite file is copied aside first. Afterwards finished evaluations that have no column
    segments get them.

    Returns:
        The revision before (None for a new store) and the backup's path, if one was made.

    Raises:
        StoreNotReadyError: the schema is newer than this version of jsdelta.
        StoreError: the database cannot be reached or belongs to something else.
    """
    parsed = parse_url(url)
    path = sqlite_path(parsed)
    existed = path is not None and path.exists()
    if path is not None:
        _make_folder(path.parent)
    engine, backup = make_engine(parsed), None
    # Read-only: opening for writing would turn WAL on in what may be a foreign file.
    reader = make_engine(parsed, read_only=existed)
    try:
        with reporting(parsed):
            with reader.connect() as connection:
                before = find_revision(connection)
                if before is None:
                    refuse_foreign(connection, parsed)
                elif before > HEAD_REVISION:
                    raise StoreNotReadyError(
                        f"{show_url(parsed)} has schema {before}, newer than this version's {HEAD_REVISION}; "
                        "update jsdelta"
                    )
            if before == HEAD_REVISION:
                _fill_segments(Store(reader), engine)
                return before, None
            if existed and before is not None and path is not None:
                backup = path.with_name(f"{path.name}.before-{HEAD_REVISION}")
                _copy_aside(path, backup)
            with engine.connect().execution_options(jsdelta_write=True) as connection, connection.begin():
                # Read again under the lock: a command beside this one may have made the store.
                if path is None:
                    connection.execute(text(f"SELECT pg_advisory_xact_lock({UPGRADE_LOCK})"))
                if find_revision(connection) != HEAD_REVISION:
                    command.upgrade(alembic_config(connection), revision)
            if revision == "head":
                _fill_segments(Store(reader), engine)
    finally:
        reader.dispose()
        engine.dispose()
    return before, backup


def _fill_segments(reader: Store, engine: Engine) -> None:
    """Store the segments of evaluations that an older version finished; until then queries read rows."""
    with reader.reading() as connection:
        missing = list_without_segments(connection)
    for evaluation_id in missing:
        with Store(engine).transaction() as session:
            write_segments(session, evaluation_id)


def _copy_aside(path: Path, backup: Path) -> None:
    """Copy a SQLite store, its write-ahead log included, whole or not at all."""
    try:
        with (
            replace_file(backup, path.stat().st_mode & 0o666) as file,
            closing(sqlite3.connect(path)) as store,
            closing(sqlite3.connect(file.name)) as copy,
        ):
            copy.execute("PRAGMA journal_mode = OFF")  # nothing beside it that a kill could leave
            store.backup(copy)
    except (sqlite3.Error, OSError) as error:
        fault = error if isinstance(error, OSError) else find_fault(backup)
        reason = explain(fault, "check the folder's rights") if fault else str(error)
        raise StoreError(f"backup {backup} cannot be written: {reason}; nothing was upgraded") from error


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(
            f"folder {folder} cannot be made: {explain(error, 'choose another --workspace')}"
        ) from error
