"""``jsdelta attack``: make adversarial samples."""

import typer

from jsdelta_db.errors import UsageError

from . import attack_options, options
from .attack_run import run_attack
from .bug_table import note_controls, print_summary
from .groups import with_groups
from .output import note

app = typer.Typer(invoke_without_command=True)


@app.callback()
@with_groups
def attack(
    ctx: typer.Context,
    *,
    eps: attack_options.Eps = None,
    roles: attack_options.Roles,
    method: attack_options.Method,
    scoring: options.Scoring,
    data_dir: options.DataDir = None,
    device: options.Device = None,
    dtype: options.DType = "auto",
    place: attack_options.Place,
) -> None:
    """Attack members of an ensemble by targeted PGD, score the samples on the other members, and store them.

    Example: jsdelta attack --eps 3
    """
    if ctx.invoked_subcommand is not None:
        return
    if not eps:
        raise UsageError(
            "jsdelta attack needs a radius: --eps 3 (3/255), or several; see jsdelta attack --help"
        )
    workspace = ctx.obj.workspace(data_dir)
    configs = method.configure(eps, dtype or "auto", device or "auto")
    folder = place.find_folder()
    evaluations, worked_on = run_attack(workspace, configs, roles, scoring, place)
    if folder is not None:
        from jsdelta_db.exchange.offline import offline_workspace

        workspace = offline_workspace(workspace, folder)
    print_summary(workspace, evaluations)
    if scoring.controls:
        note_controls(workspace, evaluations)
    if not worked_on:
        note("every one of these attacks was finished before; nothing was done again")
    if folder is not None:
        note(f"stored in {folder} alone; where the models are from: jsdelta db import {folder.name}")
