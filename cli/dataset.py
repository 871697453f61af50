"""``jsdelta dataset``: your own data sets, and those constructed with a trained model."""

from pathlib import Path
from typing import Annotated

import typer

from jsdelta_db.config.eps import parse_eps
from jsdelta_db.errors import UsageError

from . import options, printing, selecting
from .bench import open_bench
from .commands import App
from .groups import with_groups
from .output import note, write_rows

OwnName = Annotated[str, typer.Argument(help="Name of the data set.")]
Npz = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE", help="Arrays x_train, y_train, x_test, y_test; or x, y. uint8, or in [0, 1]."
    ),
]
Folder = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR", help="Pictures, one sub-folder a class, below train and test or val, or not."
    ),
]
Factory = Annotated[
    str | None,
    typer.Option(
        metavar="MODULE:CALLABLE", help="Returns a data set of (image, label), or a pair: train, test."
    ),
]
Size = Annotated[
    int | None, options.whole("Make pictures N×N: the shorter side resized, the middle cut.", 1, 4096)
]
Classes = Annotated[Path | None, typer.Option(metavar="FILE", help="Names of the labels, one a line.")]
BaselineSize = Annotated[int | None, options.whole("Baseline images of each class.", 1)]
TestOnly = Annotated[
    bool, typer.Option("--test-only", help="No train split: for networks that were trained elsewhere.")
]
SkipBroken = Annotated[
    bool, typer.Option("--skip-broken", help="Leave out images that cannot be read, and count them.")
]
Jobs = Annotated[int | None, options.whole("Processes that decode; default: one a core.", 1, 256)]
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
Force = Annotated[bool, typer.Option("--force", help="Replace the file of -o if there is one.")]
Limit = Annotated[int, options.whole("How many images to draw.", 1, 20)]

app = App(no_args_is_help=True, help="Add your own data sets, construct others with a model, show them.")


@app.callback()
def dataset() -> None:
    """Add your own data sets, construct others with a trained model, and show them."""


@app.command()
def add(
    ctx: typer.Context,
    name: OwnName,
    npz: Npz = None,
    folder: Folder = None,
    factory: Factory = None,
    size: Size = None,
    classes: Classes = None,
    baseline_size: BaselineSize = None,
    test_only: TestOnly = False,
    skip_broken: SkipBroken = False,
    jobs: Jobs = None,
) -> None:
    """Add your own images; they are decoded once, and every later command opens them by name.

    10 % of each class's training images become the baseline split (10 to 500), the test images are
    attacked. A source that is not divided into train and test is divided 60/20/20; with --test-only 1/3 is
    the baseline and 2/3 are attacked.

    Example: jsdelta dataset add flowers --npz flowers.npz
    """
    from jsdelta_db.compute.sources.dividing import Rules
    from jsdelta_db.pipeline.datasets.add import AddRequest, add_dataset, open_source

    request = AddRequest(
        name, npz, folder, factory, size, None if classes is None else _read_classes(classes),
        Rules(baseline_size, test_only), skip_broken, jobs,
    )  # fmt: skip
    source = open_source(request)  # looked at before a store is made
    with open_bench(ctx.obj.workspace(), makes_store=True) as bench:
        row, is_new = add_dataset(bench, request, source)
    facts = row.construction or {}
    line = {
        "name": row.name, "dataset": row.uid, "classes": len(row.classes),
        "image": "×".join(map(str, facts["image_shape"])), "train": facts["n_train"],
        "baseline": facts["n_baseline"], "attack": facts["n_attack"], "state": "added" if is_new else "found",
    }  # fmt: skip
    write_rows([line], list(line))
    if facts["n_train"]:
        note(f"train on it: jsdelta train --dataset {row.name}")
    else:
        note(f"add a network for it: jsdelta models add NAME --factory … --dataset {row.name}")


def _read_classes(path: Path) -> tuple[str, ...]:
    """Return the class names of a file, one a line."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8 text"
        raise UsageError(
            f"--classes {path} cannot be read ({reason}): must be a text with one name a line"
        ) from error
    return tuple(line.strip() for line in lines if line.strip())


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
def list_all(ctx: typer.Context, *, where: selecting.WhereListed = None, output: printing.Printing) -> None:
    """List the data sets in the store.

    Example: jsdelta dataset list
    """
    from jsdelta_db.queries.datasets import DATASET_KEYS, query_datasets
    from jsdelta_db.queries.facts.listed import filter_rows

    with ctx.obj.read_store() as connection:
        found = query_datasets(connection)
    rows, reason = filter_rows(found, DATASET_KEYS, where or ())
    write_rows(rows, DATASET_KEYS, output)
    if reason:
        note(reason)


@app.command()
@with_groups
def show(
    ctx: typer.Context,
    *,
    name: Name,
    figure: Figure = None,
    force: Force = False,
    limit: Limit = 10,
    output: printing.PrintingFormat,
    data_dir: options.DataDir = None,
) -> None:
    """Show how a data set was made and, with -o, its images beside their origins.

    Example: jsdelta dataset show digits
    """
    from jsdelta_db.queries.datasets import FACT_KEYS, get_dataset

    if figure is not None:
        from jsdelta_db.plots.files import check_figure_path

        check_figure_path(figure, force=force)
    workspace = ctx.obj.workspace(data_dir)
    with ctx.obj.read_store() as connection:
        row = get_dataset(connection, name)
    if figure is not None:
        from jsdelta_db.pipeline.datasets.pictures import read_columns
        from jsdelta_db.plots.constructions import draw_grid
        from jsdelta_db.plots.files import save_figure

        title, columns = read_columns(workspace, row["uid"], limit)
        save_figure(draw_grid(columns, title=title), figure)
        note(f"figure: {figure}")
    if output.is_for_people:
        facts = [{"fact": key, "value": row[key]} for key in FACT_KEYS if row[key] is not None]
        write_rows(facts, ("fact", "value"), output)
    else:
        write_rows([row], FACT_KEYS, output)
