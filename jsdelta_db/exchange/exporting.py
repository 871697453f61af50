"""Export of a store: its tables as Parquet files, the files that its rows name, and a manifest."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from jsdelta_db.config.locations import Workspace
from jsdelta_db.errors import StoreError, UsageError
from jsdelta_db.exchange.export_source import FolderSource
from jsdelta_db.exchange.manifest import (
    FILES,
    TABLES,
    Manifest,
    TableFile,
    is_export,
    list_foreign,
    table_file,
    write_manifest,
)
from jsdelta_db.exchange.open_source import open_as_source
from jsdelta_db.exchange.parquet import write_parquet
from jsdelta_db.exchange.source import BATCH_ROWS, Source, list_files
from jsdelta_db.exchange.tables import Batch, PortableTable, portable_tables, run_tables
from jsdelta_db.runtime.files import copy_verified, refuse_to_replace, replace_folder, sha256_of_file
from jsdelta_db.runtime.progress import Progress
from jsdelta_db.runtime.reasons import explain
from jsdelta_db.store.addresses import parse_url, sqlite_path


@dataclass(frozen=True, slots=True)
class Exported:
    """Size of an export: rows, files (None if they were left out), and unfinished runs it lacks."""

    rows: int
    files: int | None
    left_out: int


def export_store(
    workspace: Workspace, folder: Path, progress: Progress, *, with_files: bool = True
) -> Exported:
    """Write a store as a folder, whole or not at all, and read it back.

    Args:
        folder: absent, empty, or an earlier export, which is replaced. A new one can be entered by whoever
            may read the store.
        with_files: whether checkpoints, logits, chunk files and constructed data sets are copied.

    Raises:
        UsageError: the folder holds something else, or must stay where it is.
        StoreError: the store cannot be read, a file is missing or altered, or the disk is full.
    """
    folder = folder.expanduser().resolve()
    refuse_to_replace(folder, Path.cwd())
    refuse_to_replace(folder, workspace.root, "the workspace")
    check_target(folder)
    with open_as_source(parse_url(workspace.db_url), workspace.root) as source:
        source.check(run_tables(), with_files=with_files)
        with _replacing(folder, _readers(workspace)) as aside:
            files = _copy_files(source, aside / FILES, progress) if with_files else None
            (aside / TABLES).mkdir()
            tables = write_tables(source, aside / TABLES, progress)
            write_manifest(aside, Manifest(tables, files))
            read_back(aside, with_files=with_files)
            check_target(folder)  # somebody may have put another file there meanwhile
        return Exported(sum(table.rows for table in tables.values()), files, source.left_out)


def read_back(folder: Path, *, with_files: bool) -> None:
    """Read an export that was just written as an import would: what cannot be restored is no backup.

    Raises:
        StoreError: it could not be imported.
    """
    try:
        FolderSource(folder).check(run_tables(), with_files=with_files)
    except StoreError as error:
        raise StoreError(f"the export cannot be read back, so none was made: {error}") from error


def check_target(folder: Path) -> None:
    """Refuse a folder that holds anything but an export.

    Raises:
        UsageError: names what is there.
    """
    if not folder.exists():
        return
    found = {path.name for path in folder.iterdir()} if folder.is_dir() else {folder.name}
    foreign = sorted(found)
    if not found or (is_export(folder) and not (foreign := list_foreign(folder))):
        return
    raise UsageError(
        f"--output {folder} holds {', '.join(foreign[:3])}: must be a folder that is new, empty or an "
        "earlier export"
    )


def write_tables(source: Source, folder: Path, progress: Progress) -> dict[str, TableFile]:
    """Write every table's file into a folder."""
    tables = {}
    with progress.task("export rows", sum(len(source.runs(table)) for table in run_tables())) as advance:
        for table in portable_tables().values():
            path = folder / table_file(table.name)
            rows = write_parquet(path, table, _batches(source, table))
            tables[table.name] = TableFile(rows, sha256_of_file(path))
            advance(len(source.runs(table)) if table.is_run else 0, table.name)
    return tables


def _batches(source: Source, table: PortableTable) -> Iterator[Batch]:
    if table.is_run:
        rows = [tuple(row[name] for name in table.names) for row in source.runs(table)]
        yield from (rows[start : start + BATCH_ROWS] for start in range(0, len(rows), BATCH_ROWS))
        return
    for row in source.runs(table.owner_table):
        yield from source.rows_of(table, row["uid"])


def _copy_files(source: Source, folder: Path, progress: Progress) -> int:
    files = list_files(source)
    with progress.task("export files", len(files)) as advance:
        for uri, sha256 in files.items():
            copy_verified(source.locate(uri), folder / uri, sha256)
            advance()
    return len(files)


def _readers(workspace: Workspace) -> int:
    """Return the rights of a folder that whoever may not read the workspace or its store cannot enter."""
    path = sqlite_path(parse_url(workspace.db_url))
    rights = [each.stat().st_mode for each in (workspace.root, path) if each is not None and each.exists()]
    closed = [shift for shift in (0o070, 0o007) if any(not mode & shift & 0o444 for mode in rights)]
    return 0o777 & ~sum(closed)


@contextmanager
def _replacing(folder: Path, mode: int) -> Iterator[Path]:
    """Yield a folder that takes the export's place, and report failures as this program's errors."""
    is_made = False
    try:
        with replace_folder(folder, mode) as aside:
            is_made = True
            yield aside
    except BlockingIOError:
        raise StoreError(
            f"another process is exporting to {folder}; wait for it, or choose another"
        ) from None
    except OSError as error:
        if not is_made:
            raise UsageError(
                f"--output {folder} cannot be made: {explain(error, 'choose another folder')}"
            ) from error
        raise StoreError(
            f"export {folder} cannot be written: {explain(error, 'choose another folder')}"
        ) from error
