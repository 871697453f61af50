"""``jsdelta train``: an ensemble from a recipe."""

from typing import TYPE_CHECKING, Annotated

import typer

from . import options, recipe_options
from .bench import open_bench
from .groups import with_groups
from .output import note, write_rows

if TYPE_CHECKING:
    from jsdelta_db.pipeline.train import TrainedEnsemble

LARGEST_SEED = 2**31 - 10_000  # room for the members' seeds in 32 bits

Seed = Annotated[int, options.whole("Seed of the first member.", 0, LARGEST_SEED)]
Name = Annotated[str | None, typer.Option(help="Name of the ensemble.")]
Jobs = Annotated[int, options.whole("How many members at a time.", 1, 256)]
Download = Annotated[bool, typer.Option("--download", help="Fetch a data set that is missing.")]


@with_groups
def train(
    ctx: typer.Context,
    *,
    seed: Seed = 0,
    choice: recipe_options.Choice,
    name: Name = None,
    jobs: Jobs = 1,
    data_dir: options.DataDir = None,
    download: Download = False,
    device: options.Device = None,
    dtype: options.DType = None,
) -> None:
    """Train an ensemble: members of one recipe with seeds SEED, SEED + 1, …; finished ones are reused.

    A stopped training resumes at its last epoch when the same command is run again.

    Example: jsdelta train --seed 0
    """
    workspace = ctx.obj.workspace(data_dir)
    recipe = choice.choose(workspace, device=device, dtype=dtype)
    from jsdelta_db.pipeline.train import check_training, train_ensemble

    if not recipe.tried:
        note(f"recipe {recipe.name} was never tried on its data by its authors; look at the accuracies")
    known = recipe_options.list_known_datasets(recipe.train.dataset, workspace)
    check_training(recipe, known, name=name)
    with open_bench(workspace, makes_store=True) as bench:
        ensemble = train_ensemble(bench, recipe, seed=seed, name=name, download=download, jobs=jobs)
    _write_members(ensemble, has_architectures=recipe.is_mixed)
    note(f"ensemble {ensemble.name} ({ensemble.uid}); next: jsdelta attack --eps 3")


def _write_members(ensemble: "TrainedEnsemble", *, has_architectures: bool) -> None:
    rows = [
        {
            "ensemble": ensemble.name,
            "seed": member.seed,
            "model": member.uid,
            "architecture": member.architecture,
            "clean_accuracy": member.clean_accuracy,
            "robust_accuracy": robust_accuracy,
            "state": "trained" if member.seed in ensemble.trained else "found",
        }
        for member, robust_accuracy in zip(ensemble.members, ensemble.robust_accuracies, strict=True)
    ]
    write_rows(rows, [key for key in rows[0] if has_architectures or key != "architecture"])
