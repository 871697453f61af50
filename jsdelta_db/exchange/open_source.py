"""References to a source, opened: an export, a workspace, a SQLite file, or a server's URL."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import URL

from jsdelta_db.config.locations import Workspace, sqlite_url
from jsdelta_db.errors import StoreError, StoreNotReadyError, UsageError
from jsdelta_db.exchange.export_source import FolderSource
from jsdelta_db.exchange.manifest import MANIFEST
from jsdelta_db.exchange.source import Source, StoreSource
from jsdelta_db.store.addresses import parse_url, show_url, sqlite_path
from jsdelta_db.store.session import open_store, reporting

ALLOWED = "an export's folder, a workspace, a SQLite file or postgresql://USER@HOST/DATABASE"


@contextmanager
def open_source(reference: str, workspace: Workspace, files_from: Path | None = None) -> Iterator[Source]:
    """Open the source that a user names.

    Args:
        workspace: destination of the rows.
        files_from: the workspace that a store's file paths are relative to; by default the folder of a
            SQLite file, and for a server the workspace itself.

    Raises:
        UsageError: it does not exist, or is the destination.
        StoreNotReadyError, StoreError: it is of another revision, not whole, or cannot be read.
    """
    folder = Path(reference).expanduser()
    if "://" not in reference and (folder / MANIFEST).is_file():
        yield FolderSource(folder)
        return
    url = parse_url(_url_of(reference, folder))
    if _is_same(url, parse_url(workspace.db_url)):
        raise UsageError(f"SOURCE is the store that rows are to go to, {show_url(url)}: must be another one")
    path = sqlite_path(url)
    with open_as_source(url, files_from or (workspace.root if path is None else path.parent)) as source:
        yield source


@contextmanager
def open_as_source(url: URL, root: Path) -> Iterator[Source]:
    """Open a store to read from, in one snapshot.

    Args:
        root: the workspace that its file paths are relative to.

    Raises:
        StoreNotReadyError, StoreError: it is of another revision, or cannot be read.
    """
    try:
        store = open_store(url)
    except StoreNotReadyError as error:
        raise StoreNotReadyError(
            f"the source is not ready, and commands named here are for it: {error}"
        ) from None
    try:
        with reporting(url), store.reading() as connection:
            yield StoreSource(connection, show_url(url), root)
    finally:
        store.close()


def _url_of(reference: str, folder: Path) -> str:
    if "://" in reference:
        try:
            parse_url(reference)
        except UsageError:
            raise UsageError(
                f"SOURCE is not a database URL of a kind that jsdelta knows: must be {ALLOWED}"
            ) from None
        return reference
    for path in (folder, folder / "jsdelta.db"):
        if path.is_file():
            return sqlite_url(path.resolve())
    if folder.is_dir():
        raise StoreError(
            f"{folder} holds neither {MANIFEST} nor jsdelta.db: no export or workspace, or an export or an "
            "attack --offline that was stopped; run the command that made it again"
        )
    raise UsageError(f"SOURCE {reference!r} is not there: must be {ALLOWED}")


def _is_same(one: URL, other: URL) -> bool:
    paths = sqlite_path(one), sqlite_path(other)
    if None not in paths:
        return paths[0].resolve() == paths[1].resolve()  # type: ignore[union-attr]
    return (one.host, one.port, one.database, dict(one.query)) == (
        other.host, other.port, other.database, dict(other.query)
    )  # fmt: skip
