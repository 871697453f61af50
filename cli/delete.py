"""``jsdelta db delete``: a run and all that depends on it."""

import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from .bench import open_bench
from .output import note, write_rows

if TYPE_CHECKING:
    from jsdelta_db.store.deletion import Deletion

Uid = Annotated[
    str, typer.Argument(metavar="UID", help="Of a data set, model, ensemble, attack or evaluation.")
]
Cascade = Annotated[bool, typer.Option("--cascade", help="Delete also what depends on it; asks first.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]


def delete(ctx: typer.Context, uid: Uid, cascade: Cascade = False, yes: Yes = False) -> None:
    """Delete a run: its rows, the files that only they refer to, and its runs in MLflow (as MLflow deletes).

    Refused while something else depends on it, or a process works on it.

    Example: jsdelta db delete 3f9c2b7a --cascade --yes
    """
    from jsdelta_db.maintenance.delete import delete as delete_planned
    from jsdelta_db.maintenance.delete import find_deletion

    workspace = ctx.obj.workspace()
    with open_bench(workspace) as bench:
        if any(each.startswith(uid) for each in bench.finished_deletions):
            return
        plan = find_deletion(bench, uid, cascade=cascade)
        write_rows(list(map(asdict, plan.runs)), ("kind", "uid", "name", "rows"))
        if cascade and not yes:
            _ask(plan)
        done = delete_planned(bench, plan)
    note(f"deleted: {done.n_rows:,} rows, {done.n_files:,} files, {done.n_mlflow_runs:,} MLflow runs")


def _ask(plan: "Deletion") -> None:
    """Go on only after a yes.

    Raises:
        UsageError: nobody is there to answer.
    """
    from jsdelta_db.errors import UsageError

    if not sys.stdin.isatty():
        raise UsageError("nothing was deleted: --cascade asks first, and this is no terminal; add --yes")
    sys.stdout.flush()
    if not typer.confirm(f"Delete all {len(plan.runs)}?", default=False, err=True):
        note("nothing was deleted")
        raise typer.Exit(1)
