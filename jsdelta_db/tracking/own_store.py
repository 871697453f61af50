"""MLflow's store as a SQLite file: made aside and put in its place whole.

MLflow makes its tables in the file itself, by many migrations, and cannot go on with those that were
interrupted. An unfinished file that holds nothing is made again.
"""

import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path

from jsdelta_db.config.locations import sqlite_url
from jsdelta_db.runtime.files import write_atomically

MADE_WHOLE = 0x6A73  # in the file's header, where MLflow writes nothing: made here, so nothing is missing
LOCK_SECONDS = 12.0
KEPT_BY_MLFLOW = ("alembic_version", "workspaces")  # filled by its migrations


def prepare_file(file: Path) -> bool:
    """Make MLflow's tables where they are missing; one process at a time.

    Returns:
        Whether an unfinished file was made again.

    Raises:
        OSError, sqlite3.Error: it cannot be opened or written, or another process has it locked.
    """
    if not file.exists() or not file.stat().st_size:
        _make(file)
        return False
    with closing(sqlite3.connect(file, timeout=LOCK_SECONDS)) as store:
        store.execute("BEGIN IMMEDIATE")  # what MLflow is about to do: it would try in vain for minutes
        may_be_unfinished = _holds_nothing(store)
        store.rollback()
    if not may_be_unfinished or _opens(file):
        return False
    _make(file)
    return True


def _holds_nothing(store: sqlite3.Connection) -> bool:
    """Return whether nobody's work is in a file that may be unfinished."""
    if store.execute("PRAGMA user_version").fetchone() == (MADE_WHOLE,):
        return False  # what we made is whole, empty or not
    for (table,) in store.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
        where = " WHERE name <> 'Default'" if table == "experiments" else ""
        if table in KEPT_BY_MLFLOW or table.startswith("sqlite_"):
            continue
        if store.execute(f'SELECT 1 FROM "{table}"{where} LIMIT 1').fetchone():  # noqa: S608 its own names
            return False
    return True


def _opens(file: Path) -> bool:
    """Return whether MLflow can use a copy of a file: of the file itself it would keep a connection."""
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    with tempfile.TemporaryDirectory(prefix="jsdelta-") as folder:
        copy = Path(folder) / file.name
        copy.write_bytes(file.read_bytes())
        try:
            _open(copy)
        except (MlflowException, SQLAlchemyError):
            return False
    return True


def _make(file: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="jsdelta-") as folder:
        made = Path(folder) / file.name
        _open(made)
        with closing(sqlite3.connect(made)) as store:
            store.execute(f"PRAGMA user_version = {MADE_WHOLE}")
        write_atomically(file, made.read_bytes())


def _open(file: Path) -> None:
    from mlflow import MlflowClient

    MlflowClient(tracking_uri=sqlite_url(file)).search_experiments(max_results=1)
