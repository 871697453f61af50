"""Creation: a store opened for writing, made first where it is a SQLite file that is missing."""

from pathlib import Path

from sqlalchemy import URL, inspect

from jsdelta_db.store.addresses import parse_url, sqlite_path
from jsdelta_db.store.session import Store, checked_store, make_engine, open_store, reporting


def open_for_writing(url: str) -> Store:
    """Open a store for writing; make a missing SQLite store, never migrate an existing one.

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
            open_store(url).close()  # opening for writing would turn WAL on in what may be a foreign file
    return checked_store(make_engine(parsed), parsed)


def _is_blank(path: Path, url: URL) -> bool:
    """Tell whether a file is missing or has no tables: just being made, or left by a killed process."""
    if not path.exists():
        return True
    engine = make_engine(url, read_only=True)
    try:
        with reporting(url), engine.connect() as connection:
            return not inspect(connection).get_table_names()
    finally:
        engine.dispose()
