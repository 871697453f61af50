"""``jsdelta train``."""

from typing import TYPE_CHECKING, Annotated

import typer

from jsdelta_db.config.checks import MOST_EPOCHS, MOST_STEPS, MOST_WIDTH, NORMS
from jsdelta_db.config.eps import parse_eps
from jsdelta_db.errors import StoreNotReadyError, UnknownNameError, UsageError

from . import options
from .output import Format, TerminalProgress, note, write_rows

if TYPE_CHECKING:
    from jsdelta_db.config.locations import Workspace
    from jsdelta_db.config.recipes import Recipe

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
    recipe: Annotated[
        str | None, typer.Option(metavar="NAME|FILE.toml", help="See jsdelta recipes list; or your own.")
    ] = None,
    members: Annotated[
        int | None, typer.Option(metavar="N", parser=options.whole(1, 1000), help="How many members.")
    ] = None,
    dataset: Annotated[
        str | None, typer.Option(metavar="NAME", help="digits, cifar10, svhn, or one that was constructed.")
    ] = None,
    arch: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Built-in name or your own module:callable (repeatable: member i takes the i-th, cycling).",
        ),
    ] = None,
    method: Annotated[
        str | None, typer.Option(metavar="standard|adversarial|sam", help="Training method.")
    ] = None,
    width: Annotated[
        list[int] | None,
        typer.Option(
            metavar="N",
            parser=options.whole(1, MOST_WIDTH),
            help="Base width of a built-in architecture (repeatable, as --arch).",
        ),
    ] = None,
    epochs: Annotated[
        int | None,
        typer.Option(metavar="N", parser=options.whole(1, MOST_EPOCHS), help="Passes over the train split."),
    ] = None,
    train_eps: Annotated[
        str | None,
        typer.Option(metavar="EPS", help="Adversarial training's radius: 8 is 8/255; as it is for l2."),
    ] = None,
    train_norm: Annotated[
        str | None, typer.Option(metavar="linf|l2", help="Adversarial training's norm.")
    ] = None,
    train_steps: Annotated[
        int | None,
        typer.Option(
            metavar="N", parser=options.whole(1, MOST_STEPS), help="Steps of its inner attack; 1 is FGSM."
        ),
    ] = None,
    train_step_size: Annotated[
        str | None,
        typer.Option(
            metavar="SIZE", help="Their length, in --train-eps's unit; default: as the recipe's to ε / steps."
        ),
    ] = None,
    sam_rho: Annotated[
        float | None, typer.Option(metavar="RHO", help="Radius of SAM's ascent step, above 0.")
    ] = None,
    sam_adaptive: Annotated[
        bool | None,
        typer.Option("--sam-adaptive/--no-sam-adaptive", help="The radius in units of each weight (ASAM)."),
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name of the ensemble.")] = None,
    jobs: Annotated[
        int, typer.Option(metavar="N", parser=options.whole(1, 256), help="How many members at a time.")
    ] = 1,
    data_dir: options.DataDir = None,
    download: Annotated[bool, typer.Option("--download", help="Fetch a data set that is missing.")] = False,
    device: options.Device = None,
    dtype: Annotated[
        str | None, typer.Option(metavar="auto|float32|bfloat16", help="Arithmetic inside the network.")
    ] = None,
) -> None:
    """Train an ensemble: members of one recipe with seeds SEED, SEED + 1, …; finished ones are reused.

    A training that was stopped goes on from its last epoch when the same command is given again.

    Example: jsdelta train --seed 0
    """
    workspace = ctx.obj.workspace(data_dir)
    base = _base_recipe(recipe, dataset, method, workspace)
    sizes = _attack_settings(base, method, train_eps, train_norm, train_steps, train_step_size)
    chosen = base.mix(arch or (), width or ()).override(
        members, dataset=dataset, method=method, epochs=epochs, device=device, dtype=dtype,
        sam_rho=sam_rho, sam_adaptive=sam_adaptive, **sizes,
    )  # fmt: skip
    from jsdelta_db.pipeline.train import check_training, train_ensemble
    from jsdelta_db.workbench.workbench import open_workbench

    check_training(chosen, _known_datasets(chosen.train.dataset, workspace), name=name)
    with open_workbench(workspace, TerminalProgress()) as bench:
        ensemble = train_ensemble(bench, chosen, seed=seed, name=name, download=download, jobs=jobs)
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
    write_rows(rows, [key for key in rows[0] if chosen.is_mixed or key != "architecture"], Format.TABLE)
    note(f"ensemble {ensemble.name} ({ensemble.uid}); next: jsdelta attack --eps 3")


def _base_recipe(
    recipe: str | None, dataset: str | None, method: str | None, workspace: "Workspace"
) -> "Recipe":
    """Return the recipe that is named, or the one for the method and the data set (or its root)."""
    from jsdelta_db.config.recipes import DEFAULT_RECIPES, get_recipe, recipe_for

    if recipe is not None:
        return get_recipe(recipe)
    if dataset is None or dataset in DEFAULT_RECIPES:
        return recipe_for(dataset, method)
    roots = _constructed_datasets(workspace)
    if dataset not in roots:
        raise UnknownNameError("dataset", dataset, [*DEFAULT_RECIPES, *roots])
    return recipe_for(roots[dataset], method)


def _known_datasets(dataset: str, workspace: "Workspace") -> list[str]:
    """Return the data sets that can be trained on; the store is only asked where it might know more."""
    from jsdelta_db.config.recipes import DEFAULT_RECIPES

    known = list(DEFAULT_RECIPES)
    return known if dataset in known else [*known, *_constructed_datasets(workspace)]


def _constructed_datasets(workspace: "Workspace") -> dict[str, str]:
    """Return the store's constructed data sets, each with the one that it comes from."""
    from jsdelta_db.queries.datasets import query_datasets
    from jsdelta_db.store.reading import reading

    try:
        with reading(workspace.db_url) as connection:
            rows = query_datasets(connection)
    except StoreNotReadyError:
        return {}
    return {row["name"]: row["root"] for row in rows if row["kind"] == "constructed"}


def _refuse_without_attack(method: str, given: dict[str, object]) -> None:
    """Refuse an inner attack's settings, as they were typed, for a method that has none."""
    for option, value in given.items():
        if value is not None and method != "adversarial":
            raise UsageError(
                f"{option} {value} belongs to --method adversarial, and this is {method!r}; "
                "add --method adversarial or leave it out"
            )


def _attack_settings(
    base: "Recipe",
    method: str | None,
    eps: str | None,
    norm: str | None,
    steps: int | None,
    step_size: str | None,
) -> dict[str, object]:
    """Read the settings of adversarial training's inner attack, in the unit of its norm.

    Raises:
        UsageError: not a size, a norm without sizes in its unit, or a method without an inner attack.
    """
    train = base.train
    _refuse_without_attack(
        method or train.method,
        {"--train-eps": eps, "--train-norm": norm, "--train-steps": steps, "--train-step-size": step_size},
    )
    if norm is not None and norm not in NORMS:
        raise UnknownNameError("--train-norm", norm, NORMS)
    unit = norm or train.train_norm or "linf"
    given: dict[str, object] = {"train_norm": norm, "train_steps": steps}
    if eps is not None:
        given["train_eps"] = parse_eps(eps, unit, "--train-eps")
    if step_size is not None:
        given["train_step_size"] = parse_eps(step_size, unit, "--train-step-size")
    if train.method != "adversarial" or method not in (None, "adversarial"):
        return given
    if unit != train.train_norm and eps is None:
        raise UsageError(
            f"--train-norm {unit!r} has another unit than the recipe's {train.train_norm!r}; "
            "give --train-eps, too"
        )
    if step_size is None and (eps is not None or steps is not None):
        assert train.train_eps is not None
        assert train.train_steps is not None
        assert train.train_step_size is not None
        wider = float(str(given.get("train_eps", train.train_eps))) / train.train_eps
        given["train_step_size"] = (
            train.train_step_size * wider * train.train_steps / (steps or train.train_steps)
        )
    return given
