"""SQLite connections that read, and leave no files behind."""

import sqlite3
from pathlib import Path
from typing import Any

# No right or no room for the log and its index, which a reader needs as well.
CANNOT_WRITE = ("SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_IOERR_SHM", "SQLITE_FULL")
BUSY_SECONDS = 30.0  # how long to wait for another process's write


def connect_read_only(path: Path, **options: Any) -> sqlite3.Connection:  # noqa: ANN401 sqlite3's own options
    """Open a file for reading only, on read-only media too."""
    # mode=ro would leave the -wal and -shm files behind: only a connection that may write removes them.
    connection: sqlite3.Connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=rw", uri=True, **options
    )
    try:
        connection.execute("PRAGMA query_only = ON")
        connection.execute("SELECT 1 FROM sqlite_master")
    except sqlite3.OperationalError as error:
        connection.close()
        if not error.sqlite_errorname.startswith(CANNOT_WRITE):
            raise
        log = path.with_name(f"{path.name}-wal")
        if log.is_file() and log.stat().st_size:
            # An immutable connection would miss the committed rows in the log.
            raise sqlite3.OperationalError(f"{log.name} holds rows that cannot be read from here") from None
        connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro&immutable=1", uri=True, **options)
    return connection
