"""``jsdelta doctor``: checks of the workspace, and repairs."""

from typing import Annotated

import typer

from jsdelta_db.config.locations import Workspace

from . import options, printing
from .bench import open_bench
from .groups import with_groups
from .output import note, write_rows

Repair = Annotated[
    bool,
    typer.Option(
        "--repair",
        help="Log what MLflow missed, close runs and release work whose process is gone, take altered rows "
        "from their files again, rebuild columns.",
    ),
]


@with_groups
def doctor(
    ctx: typer.Context,
    *,
    data_dir: options.DataDir = None,
    repair: Repair = False,
    output: printing.Printing,
) -> None:
    """Check versions, device, store, MLflow and data folders; exit 1 if something is broken.

    Example: jsdelta doctor
    """
    from jsdelta_db.errors import StoreError
    from jsdelta_db.maintenance.doctor import diagnose

    workspace: Workspace = ctx.obj.workspace(data_dir)
    if repair:
        _repair(workspace)
    rows = diagnose(workspace)
    write_rows(rows, ("check", "state", "found"), output)
    broken = [row["check"] for row in rows if row["state"] == "broken"]
    if broken:
        raise StoreError(f"broken: {', '.join(broken)}; the table says how")


def _repair(workspace: Workspace) -> None:
    from jsdelta_db.maintenance.repair import repair

    with open_bench(workspace) as bench:
        for line in repair(bench) or ["nothing to repair"]:
            note(line)
