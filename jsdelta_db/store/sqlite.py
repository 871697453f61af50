"""SQLite connections: opened so that readers leave nothing behind."""

import sqlite3
from pathlib import Path
from typing import Any

BUSY_SECONDS = 30.0  # how long to wait for another process's write


def connect_read_only(path: Path, **options: Any) -> sqlite3.Connection:  # noqa: ANN401 sqlite3's own options
    """Open without the right to write; a store on read-only media has no room for WAL's own files."""
    # mode=ro would leave WAL's files behind: only a connection that may write takes them away again.
    connection: sqlite3.Connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=rw", uri=True, **options
    )
    try:
        connection.execute("PRAGMA query_only = ON")
        connection.execute("SELECT 1 FROM sqlite_master")
    except sqlite3.OperationalError as error:
        connection.close()
        if not error.sqlite_errorname.startswith(("SQLITE_READONLY", "SQLITE_CANTOPEN")):
            raise
        log = path.with_name(f"{path.name}-wal")
        if log.is_file() and log.stat().st_size:
            # Committed rows that a reader of the file alone would pass over.
            raise sqlite3.OperationalError(f"{log.name} holds rows that cannot be read from here") from None
        connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro&immutable=1", uri=True, **options)
    return connection
