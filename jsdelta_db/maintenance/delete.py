"""Deletion of a run: its rows, then the files that only they named, then its runs in MLflow.

Files come before rows when something is stored, and after them here: a file without a row is harmless, a
row without its file is not. Which rows go is read off the foreign keys (``store/relations.py``), so that a
table added later is covered.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError

from jsdelta_db.errors import InUseError
from jsdelta_db.pipeline.ensembles.resume_file import ResumeFile, StoppedTraining
from jsdelta_db.runtime.files import locked
from jsdelta_db.store.deletion import Deletion, Freed, delete_rows, name_dependents, plan_deletion
from jsdelta_db.store.schema import Model
from jsdelta_db.workbench.deletions import Remains
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

    What is left to do stands on record before the rows go, so that a kill leaves it to the next command.

    Raises:
        InUseError: something came to need it, or to work on it, since the plan was made.
    """
    bench.workspace.root.mkdir(parents=True, exist_ok=True)
    try:
        with locked(bench.workspace.root, wait=True):
            with bench.store.transaction() as session:
                models = session.scalars(select(Model).where(Model.id.in_(plan.ids.get("model", ())))).all()
                resume_files = [ResumeFile(bench.workspace, row) for row in models]
                freed = delete_rows(session, plan)
                remains = _find_remains(bench, plan.runs[0].uid, freed, resume_files)
                bench.leftovers.record(remains)
            return Deleted(freed.rows, *bench.leftovers.remove(remains))
    except IntegrityError as error:
        raise InUseError(
            f"something came to need {plan.runs[0].uid} meanwhile; type the command again"
        ) from error


def _find_remains(bench: Workbench, uid: str, freed: Freed, resume_files: Sequence[ResumeFile]) -> Remains:
    stopped = [each for each in map(_read, resume_files) if each is not None]
    return Remains(
        uid,
        uris=sorted({*freed.uris, *(each.folder for each in stopped)}),
        resume_files=[bench.relative(file.path) for file in resume_files],
        mlflow_run_ids=sorted({*freed.mlflow_run_ids, *(each.run_id for each in stopped if each.run_id)}),
        tracker=bench.leftovers.tracker_name,
    )


def _read(file: ResumeFile) -> StoppedTraining | None:
    try:
        return file.read()
    except (ValueError, KeyError, TypeError, OSError):
        return None  # damaged: deleted all the same
