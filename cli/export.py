"""``jsdelta attack export``: samples as files for other tools and for the eye."""

from pathlib import Path
from typing import Annotated

import typer

from jsdelta_db.errors import UsageError

from . import options
from .output import note, say

Destination = Annotated[
    Path,
    typer.Option(
        "--output", "-o", metavar="FILE.npz|FOLDER", help="An .npz file, or a folder for PNG files."
    ),
]
Attack = Annotated[str | None, typer.Argument(metavar="UID", help="Which attack; default: the newest.")]
Successes = Annotated[
    bool | None,
    typer.Option("--success/--all", help="Successful samples (the default), or failed ones as well."),
]
Kind = Annotated[
    str | None, typer.Option("--format", metavar="npz|png", help="Default: by the output's ending.")
]
Force = Annotated[bool, typer.Option("--force", help="Replace the file or folder of an earlier export.")]


def export(
    ctx: typer.Context,
    output: Destination,
    attack: Attack = None,
    evaluation: options.Evaluation = None,
    bugs: options.BugsBelow = None,
    successes: Successes = None,
    form: Kind = None,
    force: Force = False,
    data_dir: options.DataDir = None,
) -> None:
    """Write an attack's samples: arrays that jsdelta score --samples takes, or 8-bit pictures.

    Example: jsdelta attack export -o samples.npz
    """
    if bugs is not None and successes is False:
        raise UsageError("--bugs selects successful samples, and --all adds failed ones; give one of them")
    from jsdelta_db.samples.choice import SampleChoice
    from jsdelta_db.samples.export import export_samples

    choice = SampleChoice(attack, evaluation, bugs, only_successes=successes is not False)
    count = export_samples(ctx.obj.workspace(data_dir), output, choice, form=form, force=force)
    say(output)
    note(f"{count:,} samples")
