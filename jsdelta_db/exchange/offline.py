"""``jsdelta attack --offline``: an attack in a folder of its own, with neither database nor tracker around.

The folder is a throw-away workspace (its SQLite file is ``offline.db``, its files lie where an export keeps
them). It is given the models that take part; when the attack is finished, it becomes an export.
"""

import fcntl
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy.orm import Session

from jsdelta_db.config.attack import AttackConfig
from jsdelta_db.config.locations import Workspace
from jsdelta_db.errors import StoreError, UsageError
from jsdelta_db.exchange.exporting import write_tables
from jsdelta_db.exchange.manifest import FILES, MANIFEST, TABLES, Manifest, write_manifest
from jsdelta_db.exchange.merging import merge
from jsdelta_db.exchange.open_source import open_as_source, open_source
from jsdelta_db.exchange.source import Source, list_files
from jsdelta_db.exchange.subset_source import NeededSource
from jsdelta_db.exchange.tables import definitions, run_tables
from jsdelta_db.pipeline.evaluation.roles import RoleRequest, find_roles
from jsdelta_db.runtime.files import copy_verified, sha256_of_file
from jsdelta_db.runtime.progress import Progress
from jsdelta_db.store.session import open_store, parse_url
from jsdelta_db.workbench.workbench import Workbench, open_workbench

STORE, ASIDE = "offline.db", ".part"
OURS = {STORE, f"{STORE}-wal", f"{STORE}-shm", MANIFEST, TABLES, FILES, ASIDE}


@dataclass(frozen=True, slots=True)
class Parts:
    """Who takes part, as :func:`jsdelta_db.pipeline.evaluation.roles.find_roles` takes it."""

    ensemble: str | None
    attacked: str
    evaluators: Sequence[str]
    surrogates: Sequence[str]


@contextmanager
def open_offline(
    workspace: Workspace,
    folder: Path,
    start: str | None,
    configs: Sequence[AttackConfig],
    parts: Parts,
    progress: Progress,
) -> Iterator[Workbench]:
    """Open a folder for an attack, and make it an export when the block is done.

    Args:
        workspace: whose store is read for models; nothing is written there.
        start: an export or another store to read instead.

    Raises:
        UsageError: the folder holds something else, or a name is not valid.
        StoreError: where the models come from is not whole.
    """
    place = offline_workspace(workspace, folder)
    with _open_start(workspace, place, start) as source:
        source.check(definitions(), with_files=False)
        with open_workbench(place, progress, is_tracked=False) as bench:
            merge(bench, source, definitions(), with_files=False, label="models")
            _bring_files(bench, source, configs, parts)
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
    return Workspace(folder / FILES, f"sqlite:///{folder / STORE}", None, workspace.data_dir)


@contextmanager
def _open_start(workspace: Workspace, place: Workspace, start: str | None) -> Iterator[Source]:
    if start is not None:
        with open_source(start, place) as source:
            yield source
        return
    open_store(workspace.db_url).close()  # without a store there is no ensemble: says so
    with open_as_source(parse_url(workspace.db_url), workspace.root) as source:
        yield source


def _bring_files(bench: Workbench, source: Source, configs: Sequence[AttackConfig], parts: Parts) -> None:
    """Copy the files of those that take part, and of what these rest on; no others.

    Raises:
        StoreError: the export that they should come from has no files.
    """
    with bench.store.transaction() as session:
        roots = _find_roots(session, configs[0].objective, parts)
    for uri, sha256 in list_files(NeededSource(source, roots)).items():
        target = bench.locate(uri)
        if sha256_of_file(target) == sha256:
            continue
        if not source.has_files:
            raise StoreError(f"{source.title} has no files; export again without --no-files")
        copy_verified(source.locate(uri), target, sha256)


def _find_roots(session: Session, objective: str, parts: Parts) -> dict[str, set[str]]:
    request = RoleRequest(parts.ensemble, parts.attacked, parts.evaluators, parts.surrogates)
    found = find_roles(session, request, objective)
    models = {model.uid for roles in found for model in roles.models}
    return {"model": models, "ensemble": {roles.ensemble.uid for roles in found if roles.ensemble}}


def _make_export(place: Workspace, progress: Progress) -> None:
    """Write the tables of what the attacks rest on beside the files, and the manifest last.

    Raises:
        StoreError: a file is missing or altered, or the disk is full.
    """
    folder = place.root.parent
    aside = folder / ASIDE
    try:
        lock = os.open(folder, os.O_RDONLY)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)  # a second call of the same command waits its turn
            with open_as_source(parse_url(place.db_url), place.root) as found:
                source = NeededSource(found)
                files = list_files(source)
                for uri, sha256 in files.items():
                    if sha256_of_file(source.locate(uri)) != sha256:
                        raise StoreError(
                            f"{source.locate(uri)} is missing or altered; begin in another --output"
                        )
                source.check(run_tables(), with_files=False)
                shutil.rmtree(aside, ignore_errors=True)
                tables = write_tables(source, aside, progress)
            (folder / MANIFEST).unlink(missing_ok=True)
            shutil.rmtree(folder / TABLES, ignore_errors=True)
            (aside / TABLES).rename(folder / TABLES)
            aside.rmdir()
            write_manifest(folder, Manifest(tables, len(files)))
        finally:
            os.close(lock)
    except OSError as error:
        raise StoreError(
            f"{folder} cannot be written ({error.strerror or error}); run the same command again"
        ) from error
