"""``jsdelta dataset``: data sets constructed with a trained model."""

from pathlib import Path
from typing import Annotated

import typer

from jsdelta_db.config.eps import parse_eps

from . import options
from .bench import open_bench
from .commands import App
from .groups import with_groups
from .output import note, write_rows

Kind = Annotated[str, typer.Argument(metavar="robust|nonrobust|rand|det", help="Which construction.")]
Ensemble = Annotated[
    str, typer.Option("--from", metavar="ENSEMBLE", help="Name or uid of a finished ensemble.")
]
NewName = Annotated[str, typer.Option(help="Name of the new data set.")]
Member = Annotated[int | None, options.whole("Which member; default: the first.", 0, metavar="SEED")]
Images = Annotated[int | None, options.whole("How many images; default: all to train on.", 1)]
Steps = Annotated[int | None, options.whole("Gradient steps an image.", 1)]
StepSize = Annotated[
    float | None, typer.Option(metavar="X", help="Length of a step, l2, in pixel units of [0, 1].")
]
Eps = Annotated[str | None, typer.Option(metavar="X", help="Radius of the l2 ball; rand and det only.")]
Seed = Annotated[int, options.whole("Seed of starts and random labels.", 0)]
Name = Annotated[str, typer.Argument(help="Name or uid of a data set.")]
Figure = Annotated[
    Path | None,
    typer.Option("--output", "-o", metavar="FILE", help="Draw some of its images: a .png or .svg file."),
]
Limit = Annotated[int, options.whole("How many images to draw.", 1, 20)]

app = App(no_args_is_help=True, help="Construct data sets with a trained model, and show them.")


@app.callback()
def dataset() -> None:
    """Construct data sets with a trained model, and show them."""


@app.command()
def build(
    ctx: typer.Context,
    kind: Kind,
    ensemble: Ensemble,
    name: NewName,
    member: Member = None,
    images: Images = None,
    steps: Steps = None,
    step_size: StepSize = None,
    eps: Eps = None,
    seed: Seed = 0,
    trust_code: options.TrustCode = False,
    data_dir: options.DataDir = None,
    device: options.Device = None,
    dtype: options.DType = None,
) -> None:
    """Construct a data set from the train split of an ensemble; a stopped construction is resumed.

    robust and nonrobust move another image until the model's features are those of x (1,000 steps of 0.1, no
    ball; label y). rand and det attack x towards a label and give it that label, drawn or y + 1 (100
    steps of 0.1 in an l2 ball of 0.5). For the 8×8 digits at 1/8 contrast: 200 steps of 0.01; 40 steps
    of 0.02 in a ball of 0.2.

    Example: jsdelta dataset build det --from digits --name digits-det
    """
    from jsdelta_db.config.construction import ConstructionRequest
    from jsdelta_db.pipeline.datasets.build import build_dataset

    radius = None if eps is None else parse_eps(eps, "l2")
    request = ConstructionRequest(
        kind, steps, step_size, radius, images, seed, dtype or "auto", device or "auto"
    )
    workspace = ctx.obj.workspace(data_dir)
    with open_bench(workspace, trusts_code=trust_code) as bench:
        row, is_new = build_dataset(bench, request, ensemble=ensemble, name=name, member=member)
    facts = row.construction or {}
    line = {
        "name": row.name, "dataset": row.uid, "construction": facts["kind"], "images": facts["n_images"],
        "label_share": facts["label_share"], "state": "built" if is_new else "found",
    }  # fmt: skip
    write_rows([line], list(line))
    note(f"train on it: jsdelta train --dataset {row.name}; see it: jsdelta dataset show {row.name}")


@app.command(name="list")
@with_groups
def list_all(ctx: typer.Context, output: options.PrintingFormat) -> None:
    """List the data sets in the store.

    Example: jsdelta dataset list
    """
    from jsdelta_db.queries.datasets import DATASET_KEYS, query_datasets

    with ctx.obj.read_store() as connection:
        rows = query_datasets(connection)
    write_rows(rows, DATASET_KEYS, output)


@app.command()
@with_groups
def show(
    ctx: typer.Context,
    *,
    name: Name,
    figure: Figure = None,
    limit: Limit = 10,
    output: options.PrintingFormat,
    data_dir: options.DataDir = None,
) -> None:
    """Show how a data set was made and, with -o, its images beside their origins.

    Example: jsdelta dataset show digits
    """
    from jsdelta_db.queries.datasets import FACT_KEYS, get_dataset

    workspace = ctx.obj.workspace(data_dir)
    with ctx.obj.read_store() as connection:
        row = get_dataset(connection, name)
    if figure is not None:
        from jsdelta_db.pipeline.datasets.pictures import read_columns
        from jsdelta_db.plots.constructions import draw_grid
        from jsdelta_db.plots.files import check_figure_path, save_figure

        check_figure_path(figure)
        title, columns = read_columns(workspace, row["uid"], limit)
        save_figure(draw_grid(columns, title=title), figure)
        note(f"figure: {figure}")
    if output.is_for_people:
        facts = [{"fact": key, "value": row[key]} for key in FACT_KEYS if row[key] is not None]
        write_rows(facts, ("fact", "value"), output)
    else:
        write_rows([row], FACT_KEYS, output)
