"""Addresses of stores: read from what people write, and shown without their passwords."""

from pathlib import Path

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from jsdelta_db.config.locations import sqlite_file
from jsdelta_db.errors import UsageError

DRIVERS = ("postgresql", "postgresql+psycopg")
QUOTING = "in JSDELTA_DB_URL write @ as %40, % as %25, / as %2F, : as %3A, ? as %3F and # as %23"


def parse_url(url: str | URL) -> URL:
    """Parse a database URL; a SQLite file's name is taken as it stands.

    Raises:
        UsageError: it is no URL, or not of SQLite or PostgreSQL.
    """
    if isinstance(url, URL):
        return url
    file = sqlite_file(url)
    if file is not None:
        return URL.create("sqlite", database=str(file))
    valid = "must be sqlite:///FILE or postgresql://USER@HOST/DATABASE"
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):  # ValueError: a port that is no number
        raise UsageError(f"JSDELTA_DB_URL is not a database URL: {valid}") from None
    if parsed.get_backend_name() in ("postgres", "postgresql") and parsed.drivername not in DRIVERS:
        raise UsageError(f"JSDELTA_DB_URL begins with {parsed.drivername}://: write postgresql:// instead")
    if parsed.get_backend_name() not in ("sqlite", "postgresql"):
        raise UsageError(f"JSDELTA_DB_URL names {parsed.get_backend_name()!r}: {valid}")
    if parsed.get_backend_name() == "sqlite":
        raise UsageError(f"JSDELTA_DB_URL names no file: {valid}")
    # The rest of a password that was cut at its @ would be taken as the host or the database, and shown.
    if "@" in (parsed.host or "") or url.partition("?")[0].count("@") > 1:
        raise UsageError(f"the database URL has an @ in its user or password; {QUOTING}")
    try:
        (parsed.host or "").encode("idna")  # as drivers do, whose error is no database's
    except UnicodeError:
        raise UsageError(f"JSDELTA_DB_URL names a host that none can be called: {valid}") from None
    if parsed.drivername == "postgresql":
        parsed = parsed.set(drivername="postgresql+psycopg")
    return parsed


def sqlite_path(url: URL) -> Path | None:
    """Return the file of a SQLite URL, None for a server."""
    return Path(url.database or "") if url.get_backend_name() == "sqlite" else None


def show_url(url: URL) -> str:
    """Return a store's name for messages, without its password."""
    path = sqlite_path(url)
    if path is not None:
        return str(path)
    # Of the query only a socket's path: it may carry the password, too.
    query = {key: value for key, value in url.query.items() if key in ("host", "port")}
    return url.set(drivername="postgresql", query=query).render_as_string(hide_password=True)
