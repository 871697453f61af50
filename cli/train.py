"""``jsdelta train``."""

from typing import Annotated

import typer

from . import options
from .output import Format, TerminalProgress, note, write_rows

LARGEST_SEED = 2**31 - 10_000  # room for the members' seeds in 32 bits


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(train)


def train(
    ctx: typer.Context,
    seed: Annotated[
        int,
        typer.Option(metavar="N", parser=options.whole(0, LARGEST_SEED), help="Seed of the first member."),
    ] = 0,
    recipe: Annotated[str | None, typer.Option(metavar="NAME", help="See jsdelta recipes list.")] = None,
    members: Annotated[
        int | None, typer.Option(metavar="N", parser=options.whole(1, 1000), help="How many members.")
    ] = None,
    dataset: Annotated[str | None, typer.Option(metavar="NAME", help="digits, cifar10 or svhn.")] = None,
    arch: Annotated[
        str | None, typer.Option(metavar="NAME", help="Built-in name or your own module:callable.")
    ] = None,
    method: Annotated[str | None, typer.Option(metavar="NAME", help="Training method: standard.")] = None,
    width: Annotated[
        int | None,
        typer.Option(metavar="N", parser=options.whole(1), help="Base width of a built-in architecture."),
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(metavar="N", parser=options.whole(1), help="Passes over the train split.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name of the ensemble.")] = None,
    data_dir: options.DataDir = None,
    download: Annotated[bool, typer.Option("--download", help="Fetch a data set that is missing.")] = False,
    device: options.Device = None,
    dtype: Annotated[
        str | None, typer.Option(metavar="auto|float32|bfloat16", help="Arithmetic inside the network.")
    ] = None,
) -> None:
    """Train an ensemble: members of one recipe with seeds SEED, SEED + 1, …; finished ones are reused.

    Example: jsdelta train --seed 0
    """
    from jsdelta_db.recipes import get_recipe, recipe_for

    base = get_recipe(recipe) if recipe else recipe_for(dataset)
    chosen = base.override(
        members,
        dataset=dataset,
        arch=arch,
        method=method,
        width=width,
        epochs=epochs,
        device=device,
        dtype=dtype,
    )
    from jsdelta_db.pipeline import check_training, train_ensemble
    from jsdelta_db.workbench import open_workbench

    check_training(chosen)
    with open_workbench(ctx.obj.workspace(data_dir), TerminalProgress()) as bench:
        ensemble = train_ensemble(bench, chosen, seed=seed, name=name, download=download)
    rows = [
        {
            "ensemble": ensemble.name,
            "seed": member.seed,
            "model": member.uid,
            "clean_accuracy": member.clean_accuracy,
            "state": "trained" if member.seed in ensemble.trained else "found",
        }
        for member in ensemble.members
    ]
    write_rows(rows, list(rows[0]), Format.TABLE)
    note(f"ensemble {ensemble.name} ({ensemble.uid}); next: jsdelta attack --eps 3")
