"""Offline attacks, ``jsdelta attack --offline``: made in a folder, without the database and the tracker.

The folder is a throw-away workspace: its SQLite file is ``offline.db``, and its files lie where an export's
do. The models that take part are merged into it; when the attack is finished, it becomes an export.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy.orm import Session

from jsdelta_db.config.locations import Workspace, sqlite_url
from jsdelta_db.errors import StoreError, UsageError
from jsdelta_db.exchange.copying import copy_files, find_missing
from jsdelta_db.exchange.exporting import read_back, write_tables
from jsdelta_db.exchange.manifest import FILES, MANIFEST, TABLES, Manifest, write_manifest
from jsdelta_db.exchange.merging import merge
from jsdelta_db.exchange.open_source import open_as_source, open_source
from jsdelta_db.exchange.source import Source, list_files
from jsdelta_db.exchange.subset_source import NeededSource
from jsdelta_db.exchange.tables import definitions, run_tables
from jsdelta_db.pipeline.evaluation.roles import RoleRequest, find_roles
from jsdelta_db.runtime.files import locked, replace_folder, sha256_of_file
from jsdelta_db.runtime.progress import Progress
from jsdelta_db.runtime.reasons import explain
from jsdelta_db.store.addresses import parse_url
from jsdelta_db.store.session import open_store
from jsdelta_db.workbench.workbench import Workbench, open_workbench

STORE = "offline.db"
ASIDE = {".part", f".{TABLES}.part", f".{TABLES}.before"}  # left by a process that was killed
OURS = {STORE, f"{STORE}-wal", f"{STORE}-shm", MANIFEST, TABLES, FILES, *ASIDE}


@contextmanager
def open_offline(
    workspace: Workspace,
    folder: Path,
    start: str | None,
    objective: str,
    request: RoleRequest,
    progress: Progress,
) -> Iterator[Workbench]:
    """Open a folder for attacks of one objective, and make it an export at the end of the block.

    Args:
        workspace: whose store is read for models; nothing is written there.
        start: an export or another store to read instead.
        request: who takes part; only their files are brought.

    Raises:
        UsageError: the folder holds something else, or a name is not valid.
        StoreError: the source of the models is not whole.
    """
    place = offline_workspace(workspace, folder)
    with _open_start(workspace, place, start) as source:
        source.check(definitions(), with_files=False)
        with open_workbench(place, progress, is_tracked=False) as bench:
            merge(bench, source, definitions(), with_files=False, label="models")
            with bench.store.read_session() as session:
                roots = _find_roots(session, request, objective)
            _copy_files(bench, source, roots)
    with open_workbench(place, progress, is_tracked=False) as bench:
        yield bench
    _make_export(place, progress)


def offline_workspace(workspace: Workspace, folder: Path) -> Workspace:
    """Return the workspace inside a folder; data sets are read from where they are.

    Raises:
        UsageError: the folder holds something else.
    """
    folder = folder.expanduser().resolve()
    found = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    if (found and not (STORE in found and found <= OURS)) or (folder.exists() and not folder.is_dir()):
        raise UsageError(
            f"--output {folder} holds {', '.join(sorted(found)[:3]) or 'no folder'}: must be a folder that "
            "is new, empty or of an earlier attack --offline"
        )
    return Workspace(folder / FILES, sqlite_url(folder / STORE), None, workspace.data_dir)


@contextmanager
def _open_start(workspace: Workspace, place: Workspace, start: str | None) -> Iterator[Source]:
    if start is not None:
        with open_source(start, place) as source:
            yield source
        return
    open_store(workspace.db_url).close()  # refuses a store that is missing
    with open_as_source(parse_url(workspace.db_url), workspace.root) as source:
        yield source


def _find_roots(session: Session, request: RoleRequest, objective: str) -> dict[str, set[str]]:
    """Return the uids of the models and ensembles that take part."""
    found = find_roles(session, request, objective)
    models = {model.uid for roles in found for model in roles.models}
    return {"model": models, "ensemble": {roles.ensemble.uid for roles in found if roles.ensemble}}


def _copy_files(bench: Workbench, source: Source, roots: dict[str, set[str]]) -> None:
    """Copy the files of some runs, and of those that they depend on; no others.

    Raises:
        StoreError: the export that they should come from has no files.
    """
    missing = list(find_missing(bench, list_files(NeededSource(source, roots)).items()))
    if missing and not source.has_files:
        raise StoreError(f"{source.title} has no files; export again without --no-files")
    copy_files(bench, source, missing)


def _make_export(place: Workspace, progress: Progress) -> None:
    """Write the tables that the attacks depend on beside the files, and the manifest last.

    Raises:
        StoreError: a file is missing or altered, or the disk is full.
    """
    folder = place.root.parent
    try:
        with locked(folder, wait=True):  # a second call of the same command waits its turn
            with (
                replace_folder(folder / TABLES) as aside,
                open_as_source(parse_url(place.db_url), place.root) as found,
            ):
                source = NeededSource(found)
                files = _check_files(source)
                source.check(run_tables(), with_files=False)
                tables = write_tables(source, aside, progress)
                (folder / MANIFEST).unlink(missing_ok=True)  # of the older tables
            write_manifest(folder, Manifest(tables, files))
            try:
                read_back(folder, with_files=False)  # their hashes were checked just now
            except StoreError:
                (folder / MANIFEST).unlink()
                raise
    except OSError as error:
        raise StoreError(
            f"{folder} cannot be written: {explain(error, 'run the same command again')}"
        ) from error


def _check_files(source: Source) -> int:
    """Check the hash of each file that rows name; return how many there are."""
    files = list_files(source)
    for uri, sha256 in files.items():
        if sha256_of_file(source.locate(uri)) != sha256:
            raise StoreError(f"{source.locate(uri)} is missing or altered; begin in another --output")
    return len(files)
