"""Deletion of a run: its rows, then the files that only they named, then its runs in MLflow.

Files come before rows when something is stored, and after them here: a file without a row is harmless, a
row without its file is not. Which rows go is read off the foreign keys (``store/relations.py``), so that a
table added later is covered.
"""

import shutil
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError

from jsdelta_db.errors import InUseError
from jsdelta_db.pipeline.ensembles.resume_file import ResumeFile, StoppedTraining
from jsdelta_db.store.deletion import Deletion, Freed, delete_rows, name_dependents, plan_deletion
from jsdelta_db.store.schema import Model
from jsdelta_db.workbench.workbench import Workbench


@dataclass(frozen=True, slots=True)
class Deleted:
    """Numbers of deleted rows, files and MLflow runs."""

    n_rows: int
    n_files: int
    n_mlflow_runs: int


def find_deletion(bench: Workbench, uid: str, *, cascade: bool = False) -> Deletion:
    """Return a run and the rows that would be deleted with it.

    Args:
        uid: of a data set, model, ensemble, attack or evaluation, or a unique prefix.
        cascade: include runs that need it, instead of refusing because of them.

    Raises:
        UsageError: no such run, or several.
        InUseError: something needs it, or a live process works on any of it.
    """
    with bench.store.read_session() as session:
        plan = plan_deletion(session, uid)
    target = plan.runs[0]
    if len(plan.runs) > 1 and not cascade:
        raise InUseError(
            f"{target.kind} {target.uid} ({target.name}) is needed by {name_dependents(plan)}; "
            "delete these first, or all of it by --cascade"
        )
    return plan


def delete(bench: Workbench, plan: Deletion) -> Deleted:
    """Delete the runs of a plan: all rows in one transaction, then files, then MLflow's runs.

    Raises:
        InUseError: something came to need it, or to work on it, since the plan was made.
    """
    try:
        with bench.store.transaction() as session:
            models = session.scalars(select(Model).where(Model.id.in_(plan.ids.get("model", ())))).all()
            resume_files = [ResumeFile(bench.workspace, row) for row in models]
            freed = delete_rows(session, plan)
    except IntegrityError as error:
        raise InUseError(
            f"something came to need {plan.runs[0].uid} meanwhile; type the command again"
        ) from error
    stopped = [each for each in map(_read, resume_files) if each is not None]
    n_files = _remove_files(bench, freed, [each.folder for each in stopped])
    for file in resume_files:
        file.remove()
    runs = {*freed.mlflow_run_ids, *(each.run_id for each in stopped if each.run_id)}
    return Deleted(freed.rows, n_files, bench.tracker.delete_runs(sorted(runs)))


def _read(file: ResumeFile) -> StoppedTraining | None:
    try:
        return file.read()
    except (ValueError, KeyError, TypeError, OSError):
        return None  # damaged: deleted all the same


def _remove_files(bench: Workbench, freed: Freed, stopped: Collection[str]) -> int:
    """Remove the files, and with the last of a run's files whatever else its folder holds."""
    inside = {uri for uri in (*freed.uris, *stopped) if _is_inside(uri)}
    folders = {folder for uri in inside if (folder := _run_folder(bench, uri)) is not None}
    folders -= {_run_folder(bench, uri) for uri in freed.remaining_uris}
    files = {bench.locate(uri) for uri in inside}.union(*(folder.rglob("*") for folder in folders))
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


def _run_folder(bench: Workbench, uri: str) -> Path | None:
    """Return the folder of the MLflow run that a file belongs to."""
    mlruns = bench.relative(bench.workspace.runs_dir)
    parts = PurePosixPath(uri).parts[:3]
    return bench.locate("/".join(parts)) if parts[0::2] == (mlruns, "artifacts") else None


def _remove(path: Path) -> bool:
    """Remove a file if possible; return whether it was."""
    try:
        if path.is_dir() and not path.is_symlink():
            return False
        path.unlink()
    except OSError:
        return False
    return True
