"""``jsdelta dataset``: data sets made with a trained model."""

from pathlib import Path
from typing import Annotated

import typer

from jsdelta_db.config.construction import ConstructionRequest
from jsdelta_db.config.eps import parse_eps

from . import options
from .output import FOR_PEOPLE, Format, TerminalProgress, note, write_rows

LARGEST_SEED = 2**31 - 1

app = typer.Typer(no_args_is_help=True, help="Make data sets with a trained model, and look at them.")


@app.callback()
def dataset() -> None:
    """Make data sets with a trained model, and look at them."""


@app.command()
def build(
    ctx: typer.Context,
    kind: Annotated[str, typer.Argument(metavar="robust|nonrobust|rand|det", help="Which construction.")],
    ensemble: Annotated[
        str, typer.Option("--from", metavar="ENSEMBLE", help="Name or uid of a finished ensemble.")
    ],
    name: Annotated[str, typer.Option(help="What to call the data set.")],
    member: Annotated[
        int | None,
        typer.Option(metavar="SEED", parser=options.whole(0), help="Which member; default: the first."),
    ] = None,
    images: Annotated[
        int | None,
        typer.Option(metavar="N", parser=options.whole(1), help="How many images; default: all to train on."),
    ] = None,
    steps: Annotated[
        int | None, typer.Option(metavar="N", parser=options.whole(1), help="Gradient steps an image.")
    ] = None,
    step_size: Annotated[
        float | None, typer.Option(metavar="X", help="Length of a step, l2, in pixel units of [0, 1].")
    ] = None,
    eps: Annotated[
        str | None, typer.Option(metavar="X", help="Radius of the l2 ball; rand and det only.")
    ] = None,
    seed: Annotated[
        int,
        typer.Option(
            metavar="N", parser=options.whole(0, LARGEST_SEED), help="Decides starts and random labels."
        ),
    ] = 0,
    data_dir: options.DataDir = None,
    device: options.Device = None,
    dtype: Annotated[
        str | None, typer.Option(metavar="auto|float32|bfloat16", help="Arithmetic inside the network.")
    ] = None,
) -> None:
    """Make a data set from the train split that an ensemble was trained on; a stopped one goes on.

    robust and nonrobust move another image until the model's features are those of x (1,000 steps of 0.1, no
    ball; label y). rand and det attack x towards a label and give it that label, drawn or y + 1 (100
    steps of 0.1 in an l2 ball of 0.5). For the 8×8 digits at 1/8 contrast: 200 steps of 0.01; 40 steps
    of 0.02 in a ball of 0.2.

    Example: jsdelta dataset build det --from digits --name digits-det
    """
    from jsdelta_db.pipeline.datasets.build import build_dataset
    from jsdelta_db.store.session import open_store
    from jsdelta_db.workbench.workbench import open_workbench

    radius = None if eps is None else parse_eps(eps, "l2")
    request = ConstructionRequest(
        kind, steps, step_size, radius, images, seed, dtype or "auto", device or "auto"
    )
    workspace = ctx.obj.workspace(data_dir)
    open_store(workspace.db_url).close()
    with open_workbench(workspace, TerminalProgress()) as bench:
        row, is_new = build_dataset(bench, request, ensemble=ensemble, name=name, member=member)
    facts = row.construction or {}
    line = {
        "name": row.name, "dataset": row.uid, "construction": facts["kind"], "images": facts["n_images"],
        "label_share": facts["label_share"], "state": "built" if is_new else "found",
    }  # fmt: skip
    write_rows([line], list(line), Format.TABLE)
    note(f"train on it: jsdelta train --dataset {row.name}; look at it: jsdelta dataset show {row.name}")


@app.command(name="list")
def list_all(
    ctx: typer.Context,
    form: Annotated[Format, typer.Option("--format", help="How to print.")] = Format.TABLE,
) -> None:
    """List the data sets that the store knows.

    Example: jsdelta dataset list
    """
    from jsdelta_db.queries.datasets import DATASET_KEYS, query_datasets
    from jsdelta_db.store.reading import reading

    with reading(ctx.obj.workspace().db_url) as connection:
        rows = query_datasets(connection)
    write_rows(rows, DATASET_KEYS, form)


@app.command()
def show(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="Name or uid of a data set.")],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="Draw some of its images: a .png or .svg file."),
    ] = None,
    limit: Annotated[
        int, typer.Option(metavar="N", parser=options.whole(1, 20), help="How many images to draw.")
    ] = 10,
    form: Annotated[Format, typer.Option("--format", help="How to print.")] = Format.TABLE,
    data_dir: options.DataDir = None,
) -> None:
    """Show how a data set was made and, with -o, its images beside those they were made from.

    Example: jsdelta dataset show digits
    """
    from jsdelta_db.queries.datasets import FACT_KEYS, get_dataset
    from jsdelta_db.store.reading import reading

    workspace = ctx.obj.workspace(data_dir)
    with reading(workspace.db_url) as connection:
        row = get_dataset(connection, name)
    if output is not None:
        from jsdelta_db.pipeline.datasets.pictures import read_columns
        from jsdelta_db.plots.constructions import draw_grid
        from jsdelta_db.plots.files import check_figure_path, save_figure

        check_figure_path(output)
        title, columns = read_columns(workspace, row["uid"], limit)
        save_figure(draw_grid(columns, title=title), output)
        note(f"figure: {output}")
    if form in FOR_PEOPLE:
        facts = [{"fact": key, "value": row[key]} for key in FACT_KEYS if row[key] is not None]
        write_rows(facts, ("fact", "value"), form)
    else:
        write_rows([row], FACT_KEYS, form)
