"""Stores opened for work: a missing SQLite store is made, an existing one never migrated unasked."""

from pathlib import Path

from sqlalchemy import URL, inspect

from jsdelta_db.store.session import (
    Store,
    _checked,
    make_engine,
    open_store,
    parse_url,
    reporting,
    sqlite_path,
)


def open_for_writing(url: str) -> Store:
    """Open a store for work; a SQLite store that is missing is made, an existing one never migrated unasked.

    Raises:
        StoreNotReadyError: an empty PostgreSQL database, or a schema of another revision.
        StoreError: it cannot be reached or written, or belongs to something else.
    """
    parsed = parse_url(url)
    path = sqlite_path(parsed)
    if path is not None:
        if _is_blank(path, parsed):
            from jsdelta_db.store.migrate import upgrade  # Alembic takes half a second to import

            upgrade(url)
        else:
            open_store(url).close()  # opening to write would turn WAL on in what may be somebody else's file
    return _checked(make_engine(parsed), parsed)


def _is_blank(path: Path, url: URL) -> bool:
    """Whether there is no file, or one without a table: just being made, or left by a killed process."""
    if not path.exists():
        return True
    engine = make_engine(url, read_only=True)
    try:
        with reporting(url), engine.connect() as connection:
            return not inspect(connection).get_table_names()
    finally:
        engine.dispose()
