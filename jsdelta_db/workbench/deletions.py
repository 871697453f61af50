"""Deletions on record: what deleted rows leave behind, removed at once or by the next command after a kill.

A record is written before the rows' transaction ends, and taken away when files and MLflow's runs are gone.
So a record whose rows are still there is of a deletion that never happened, and is dropped.
"""

import json
import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath

from jsdelta_db.config.locations import Workspace
from jsdelta_db.runtime.files import locked, write_atomically
from jsdelta_db.runtime.stamps import stamp_path
from jsdelta_db.store.deletion import is_there, list_named
from jsdelta_db.store.session import Store
from jsdelta_db.tracking import Tracker

FOLDER = ".deleting"


@dataclass(frozen=True, slots=True)
class Remains:
    """What a deleted run leaves behind.

    Attributes:
        uid: of the run that was asked for.
        uris: files and folders of the workspace that only its rows named.
        resume_files: of trainings that were stopped.
        mlflow_run_ids: runs that only its rows named.
        tracker: the server that has these; "" if they are the workspace's own.
    """

    uid: str
    uris: list[str]
    resume_files: list[str]
    mlflow_run_ids: list[str]
    tracker: str


@dataclass(frozen=True, slots=True)
class Leftovers:
    """The place of a workspace's records, and what removes what they name."""

    workspace: Workspace
    store: Store
    tracker: Tracker

    def record(self, remains: Remains) -> None:
        """Store what is to be removed, before the rows that name it go."""
        write_atomically(self._path(remains.uid), json.dumps(asdict(remains)).encode())

    def remove(self, remains: Remains) -> tuple[int, int]:
        """Remove files, then MLflow's runs, then the record; return how many files and runs went.

        The record stays while MLflow cannot be reached.
        """
        with self.store.read_session() as session:
            uris, run_ids = list_named(session)
        n_files = _remove_files(self.workspace, set(remains.uris) - uris, uris)
        for uri in filter(_is_inside, remains.resume_files):
            (self.workspace.root / uri).unlink(missing_ok=True)
        if remains.mlflow_run_ids and remains.tracker != self.tracker_name:
            return n_files, 0  # another server's: a command that names it removes them
        n_runs = self.tracker.delete_runs(sorted(set(remains.mlflow_run_ids) - run_ids))
        if not self.tracker.failed:
            self._path(remains.uid).unlink(missing_ok=True)
            with suppress(OSError):
                (self.workspace.root / FOLDER).rmdir()  # only if it is empty
        return n_files, n_runs

    def finish(self) -> Iterator[str]:
        """Finish deletions that were cut short, unless a live process is at it; yield their uids."""
        if not (self.workspace.root / FOLDER).is_dir():
            return
        with suppress(BlockingIOError), locked(self.workspace.root, wait=False):
            for path in sorted((self.workspace.root / FOLDER).glob("*.json")):
                remains = _read(path)
                if remains is None or self._is_there(remains.uid):
                    path.unlink(missing_ok=True)  # its rows never went
                    continue
                self.remove(remains)
                yield remains.uid

    @property
    def tracker_name(self) -> str:
        """The server that runs are logged to; "" for MLflow's own files in the workspace."""
        return "" if self.tracker.connection.is_local else self.tracker.connection.shown_uri

    def _is_there(self, uid: str) -> bool:
        with self.store.transaction() as session:
            return is_there(session, uid)

    def _path(self, uid: str) -> Path:
        return self.workspace.root / FOLDER / f"{uid}.json"


def _read(path: Path) -> Remains | None:
    try:
        return Remains(**json.loads(path.read_bytes()))
    except (ValueError, TypeError):
        return None


def _remove_files(workspace: Workspace, uris: set[str], named: set[str]) -> int:
    """Remove the files, and with the last of a run's files whatever else its folder holds."""
    inside = {uri for uri in uris if _is_inside(uri)}
    folders = {folder for uri in inside if (folder := _run_folder(workspace, uri)) is not None}
    folders -= {_run_folder(workspace, uri) for uri in named}
    files = {workspace.root / uri for uri in inside}.union(*(folder.rglob("*") for folder in folders))
    n_files = sum(map(_remove, files))
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)
        with suppress(OSError):
            folder.parent.rmdir()  # only if it is empty
    return n_files


def _is_inside(uri: str) -> bool:
    """Return whether a path lies in the workspace; a row of an imported store may name any."""
    path = PurePosixPath(uri)
    return "://" not in uri and ":/" not in uri and not path.is_absolute() and ".." not in path.parts


def _run_folder(workspace: Workspace, uri: str) -> Path | None:
    """Return the folder of the MLflow run that a file belongs to."""
    mlruns = workspace.runs_dir.relative_to(workspace.root).as_posix()
    parts = PurePosixPath(uri).parts[:3]
    return workspace.root / "/".join(parts) if parts[0::2] == (mlruns, "artifacts") else None


def _remove(path: Path) -> bool:
    """Remove a file if possible; return whether it was."""
    try:
        if path.is_dir() and not path.is_symlink():
            return False
        path.unlink()
        stamp_path(path).unlink(missing_ok=True)
    except OSError:
        return False
    return True
