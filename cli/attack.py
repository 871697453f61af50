"""``jsdelta attack``: make adversarial samples."""

import typer

from jsdelta_db.errors import UsageError

from . import attack_options, options
from .attack_notes import note_fruitless, note_outside, note_passes
from .attack_run import run_attack
from .bug_table import note_controls, print_summary
from .commands import App
from .groups import with_groups
from .output import note

app = App(invoke_without_command=True)


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
    """Attack members of an ensemble, by PGD or --attack-by, and score and store the samples.

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
    table = print_summary(workspace, evaluations)
    note_fruitless(table, method.norm, "more --steps" if method.attack_by is None else "another --set")
    if method.attack_by is not None:
        note_outside(table, method.norm)
        note_passes(workspace, evaluations)
    if scoring.controls:
        note_controls(workspace, evaluations)
    if not worked_on:
        note("every one of these attacks was finished before; nothing was done again")
    if folder is not None:
        note(f"stored in {folder} alone; where the models are from: jsdelta db import {folder.name}")
