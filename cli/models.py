"""``jsdelta models``: networks that were trained here or elsewhere."""

from pathlib import Path
from typing import Annotated

import typer

from jsdelta_db.config.checks import OUTPUTS, check_choice

from . import options, printing, selecting
from .bench import open_bench
from .commands import App
from .groups import with_groups
from .normalization import parse_channels
from .output import note, write_rows
from .recipe_options import list_known_datasets

Name = Annotated[str, typer.Argument(help="Name of the model.")]
Factory = Annotated[
    str,
    typer.Option(
        metavar="SOURCE:NAME",
        help="Builds the network: torchvision:resnet18, timm:resnet26, module:callable or "
        "path/to/nets.py:callable.",
    ),
]
Checkpoint = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE", help="Its weights, as saved by torch or safetensors; default: those of the factory."
    ),
]
Dataset = Annotated[str, typer.Option(metavar="NAME", help="The data set that it is for.")]
Arguments = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="An argument for the factory (repeatable)."),
]
Outputs = Annotated[
    str,
    options.choice(
        "What the network returns.", OUTPUTS, lambda text: check_choice("--outputs", text, OUTPUTS)
    ),
]
Resize = Annotated[
    int | None, options.whole("Resize images to N×N for it (bilinear, antialiased).", 1, metavar="N")
]
Mean = Annotated[
    str | None,
    typer.Option(
        metavar="M,M,M|dataset", help="Its preprocessing: this is subtracted from images in [0, 1]."
    ),
]
Std = Annotated[
    str | None,
    typer.Option(metavar="S,S,S|dataset", help="Its preprocessing: they are then divided by this."),
]
Method = Annotated[str, typer.Option(metavar="NAME", help="How it was trained.")]
Seed = Annotated[int, options.whole("Its seed, if known.", 0)]
Force = Annotated[bool, typer.Option("--force", help="Add it though its accuracy is chance.")]

app = App(no_args_is_help=True, help="List models, and add your own.")


@app.callback()
def models() -> None:
    """List models, and add your own as attacked model or evaluator."""


@app.command()
def add(
    ctx: typer.Context,
    name: Name,
    factory: Factory,
    dataset: Dataset,
    checkpoint: Checkpoint = None,
    arguments: Arguments = None,
    mean: Mean = None,
    std: Std = None,
    resize: Resize = None,
    outputs: Outputs = "logits",
    method: Method = "external",
    seed: Seed = 0,
    force: Force = False,
    device: options.Device = None,
    data_dir: options.DataDir = None,
) -> None:
    """Add a network that was trained elsewhere; without --mean and --std it gets images in [0, 1].

    Example: jsdelta models add mine --factory nets:make --checkpoint mine.pt --dataset digits
    """
    means, stds = parse_channels("mean", mean), parse_channels("std", std)
    from jsdelta_db.config.arguments import parse_arguments
    from jsdelta_db.pipeline.external_models import (
        ExternalRequest,
        add_model,
        open_before_store,
        open_network,
    )

    workspace = ctx.obj.workspace(data_dir)
    request = ExternalRequest(
        name, factory, checkpoint, dataset, means, stds, method, seed, force,
        parse_arguments(arguments or ()), outputs, resize, device or "auto",
    )  # fmt: skip
    known = list_known_datasets(dataset, workspace)
    opened = open_before_store(workspace.data_dir, request, known)  # checked before a store is made
    with open_bench(workspace, makes_store=opened is not None) as bench:
        opened = opened or open_network(bench, request)
        row, is_new = add_model(bench, request, opened)
    facts = {
        "name": row.name, "model": row.uid, "baseline_accuracy": opened.accuracies["baseline"],
        "clean_accuracy": row.clean_accuracy, "state": "added" if is_new else "found",
    }  # fmt: skip
    write_rows([facts], list(facts))
    note(
        f"attack it: jsdelta attack --eps 3 --attacked {row.name}; or evaluate on it: --evaluators {row.name}"
    )


@app.command(name="list")
@with_groups
def list_all(ctx: typer.Context, *, where: selecting.WhereListed = None, output: printing.Printing) -> None:
    """List the finished models.

    Example: jsdelta models list
    """
    from jsdelta_db.queries.facts.listed import filter_rows
    from jsdelta_db.queries.models import MODEL_KEYS, query_models

    with ctx.obj.read_store() as connection:
        found = query_models(connection)
    rows, reason = filter_rows(found, MODEL_KEYS, where or (), uid="model")
    write_rows(rows, MODEL_KEYS, output)
    if reason:
        note(reason)
