"""Import of runs that a source has and this store lacks, with their files."""

from pathlib import Path

from sqlalchemy import inspect

from jsdelta_db.config.locations import Workspace
from jsdelta_db.exchange.merging import Imported, merge
from jsdelta_db.exchange.open_source import open_source
from jsdelta_db.exchange.tables import run_tables
from jsdelta_db.runtime.progress import Progress
from jsdelta_db.store.addresses import parse_url, sqlite_path
from jsdelta_db.store.session import make_engine, reporting
from jsdelta_db.workbench.workbench import open_workbench


def import_store(
    workspace: Workspace,
    reference: str,
    progress: Progress,
    *,
    with_files: bool = True,
    files_from: Path | None = None,
) -> Imported:
    """Merge the runs of an export or another store, and their files, into a workspace.

    Args:
        reference: an export's folder, a workspace, a SQLite file, or a server's URL.
        with_files: whether to copy files; rows name them all the same.
        files_from: see :func:`jsdelta_db.exchange.open_source.open_source`.

    Raises:
        UsageError, StoreError: the source is not there or not whole, or cannot be merged; then nothing
            has changed.
    """
    with open_source(reference, workspace, files_from) as source:
        source.check(run_tables(), with_files=with_files)
        _prepare(workspace.db_url)
        with open_workbench(workspace, progress) as bench:
            return merge(bench, source, run_tables(), with_files=with_files)


def _prepare(url: str) -> None:
    """Make the tables in a server's empty database: an import names it as the destination."""
    parsed = parse_url(url)
    if sqlite_path(parsed) is not None:
        return  # opening it for work does the same
    engine = make_engine(parsed)
    try:
        with reporting(parsed), engine.connect() as connection:
            is_blank = not inspect(connection).get_table_names()
    finally:
        engine.dispose()
    if is_blank:
        from jsdelta_db.store.migrate import upgrade

        upgrade(url)
