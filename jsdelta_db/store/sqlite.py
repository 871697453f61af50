"""SQLite connections that read and leave no files behind, and locks that are waited for."""

import logging
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

# No right or no room for the log and its index, which a reader needs as well.
CANNOT_WRITE = ("SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_IOERR_SHM", "SQLITE_FULL")
BUSY_SECONDS = 15.0  # how long to wait for another process's write
TELL_SECONDS = 4.0  # until that is said
TRY_SECONDS = 2.0  # of one try, in which SQLite waits and nothing else happens: not even Ctrl-C

Result = TypeVar("Result")


def patiently(call: Callable[[], Result], path: Path) -> Result:
    """Make a call again and again while another process has the file locked.

    Raises:
        sqlite3.OperationalError: it did not let go of it.
    """
    start, is_told = time.monotonic(), False
    while True:
        try:
            return call()
        except sqlite3.OperationalError as error:
            waited = time.monotonic() - start
            if not is_locked(error) or waited > BUSY_SECONDS:
                raise
            if waited > TELL_SECONDS and not is_told:
                logging.getLogger("jsdelta_db").warning("waiting for another process that writes %s", path)
                is_told = True
            time.sleep(0.01)


def is_locked(error: BaseException) -> bool:
    """Return whether an error means that another process has the file."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


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
