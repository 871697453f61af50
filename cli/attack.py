"""``jsdelta attack``."""

from typing import Annotated

import typer

from jsdelta_db.config import DEFAULT_BETAS, AttackConfig, parse_eps
from jsdelta_db.settings import Workspace

from . import options
from .output import Format, TerminalProgress, note, write_bugs


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(attack)


def attack(
    ctx: typer.Context,
    eps: Annotated[
        list[str], typer.Option(metavar="EPS", help="Linf radius in 1/255, or a fraction (repeatable).")
    ],
    ensemble: options.Ensemble = None,
    attacked: Annotated[
        str, typer.Option(metavar="first|all|SEED", help="Which members to attack.")
    ] = "first",
    targets: Annotated[
        str, typer.Option(metavar="random|all|next|LABEL", help="Which wrong labels to aim at.")
    ] = "random",
    steps: Annotated[int, typer.Option(metavar="N", parser=options.whole(1), help="Gradient steps.")] = 100,
    images: Annotated[
        int | None,
        typer.Option(metavar="N", parser=options.whole(1), help="How many images of the attack split."),
    ] = None,
    seed: Annotated[
        int, typer.Option(metavar="N", parser=options.whole(0), help="Decides targets and starts.")
    ] = 0,
    data_dir: options.DataDir = None,
    device: options.Device = None,
) -> None:
    """Attack members of an ensemble by targeted PGD, let the others judge, and store every sample.

    Example: jsdelta attack --eps 3
    """
    configs = [
        AttackConfig(
            eps=value, steps=steps, targets=targets, seed=seed, images=images, device=device or "auto"
        )
        for value in sorted({parse_eps(text) for text in eps})
    ]
    evaluations, worked_on = run_attack(ctx.obj.workspace(data_dir), configs, ensemble, attacked)
    print_summary(ctx.obj.workspace(data_dir), evaluations)
    if not worked_on:
        note("every one of these attacks was finished before; nothing was done again")


def run_attack(
    workspace: Workspace, configs: list[AttackConfig], ensemble: str | None, attacked: str
) -> tuple[tuple[str, ...], int]:
    """Run attacks with a progress bar; return the evaluations' uids and how many had work left."""
    from jsdelta_db.pipeline import attack_and_score
    from jsdelta_db.store.session import open_store
    from jsdelta_db.workbench import open_workbench

    open_store(workspace.db_url).close()  # without a store there is no ensemble: says so, makes nothing
    with open_workbench(workspace, TerminalProgress()) as bench:
        result = attack_and_score(bench, configs, ensemble=ensemble, attacked=attacked)
    return tuple(result.evaluations), result.worked_on


def print_summary(workspace: Workspace, evaluations: tuple[str, ...]) -> None:
    """Print the bug table of some evaluations at the usual thresholds."""
    from jsdelta_db.store.queries import Selection, query_bugs
    from jsdelta_db.store.reading import reading

    with reading(workspace.db_url) as connection:
        table = query_bugs(connection, DEFAULT_BETAS, selection=Selection(uids=evaluations))
    write_bugs(table.keys, table.rows, Format.TABLE, None, True)
