"""``jsdelta plot``: figures from stored rows."""

from pathlib import Path
from typing import Annotated

import typer

from . import options
from .commands import App
from .groups import with_groups
from .output import note_pooled, note_population, say

Figure = Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="A .png or .svg file.")]
Attack = Annotated[
    str | None, typer.Option(metavar="UID", help="Samples of this attack; default: the newest.")
]
FeaturesFrom = Annotated[float | None, options.threshold("Only samples with JSΔ from BETA up.")]
Source = Annotated[
    str | None, typer.Option(metavar="LABEL", help="Only images of this label, by name or number.")
]
Target = Annotated[str | None, typer.Option(metavar="LABEL", help="Only samples that reached this label.")]
Limit = Annotated[int, options.whole("How many samples, at most.", 1, 40)]

app = App(no_args_is_help=True, help="Draw figures.")


@app.callback()
def plot() -> None:
    """Draw figures from the store's rows."""


@app.command()
@with_groups
def histogram(
    ctx: typer.Context,
    *,
    beta: options.Betas = None,
    selection: options.Selecting,
    figure: Figure = Path("jsdelta-histogram.png"),
) -> None:
    """Draw the JSΔ of successful samples by ε, with each β marked.

    Example: jsdelta plot histogram -o histogram.svg
    """
    from jsdelta_db.config.evaluation import DEFAULT_BETAS
    from jsdelta_db.errors import NothingToDoError
    from jsdelta_db.plots.files import check_figure_path, save_figure
    from jsdelta_db.plots.histogram import draw_histogram
    from jsdelta_db.queries.bugs import PANELS, js_delta_by_eps
    from jsdelta_db.queries.pooling import count_once, find_pooled
    from jsdelta_db.queries.selection import list_evaluations

    check_figure_path(figure)
    with ctx.obj.read_store() as connection:
        js_delta = js_delta_by_eps(connection, selection)
        _, counted = count_once(list_evaluations(connection, selection), PANELS)
    pooled = find_pooled(counted, PANELS)
    if not js_delta:
        raise NothingToDoError(
            "no finished attack matches, so there is nothing to draw; run jsdelta attack --eps 3"
        )
    save_figure(draw_histogram(js_delta, beta or DEFAULT_BETAS), figure)
    note_pooled(pooled)
    note_population(selection)
    say(figure)


@app.command()
def samples(
    ctx: typer.Context,
    attack: Attack = None,
    evaluation: options.Evaluation = None,
    bugs: options.BugsBelow = None,
    features: FeaturesFrom = None,
    source: Source = None,
    target: Target = None,
    limit: Limit = 8,
    figure: Figure = Path("jsdelta-samples.png"),
    data_dir: options.DataDir = None,
) -> None:
    """Draw successful samples, from the lowest JSΔ to the highest, with each evaluator's prediction.

    Example: jsdelta plot samples --limit 4 -o samples.png
    """
    from jsdelta_db.config.evaluation import DEFAULT_BETAS
    from jsdelta_db.plots.files import check_figure_path, save_figure
    from jsdelta_db.plots.samples import draw_samples
    from jsdelta_db.samples.choice import SampleChoice
    from jsdelta_db.samples.pictures import read_pictures

    choice = SampleChoice(attack, evaluation, bugs, features, source, target)
    check_figure_path(figure)
    title, pictures = read_pictures(ctx.obj.workspace(data_dir), choice, limit)
    save_figure(draw_samples(pictures, title=title, beta=bugs or features or DEFAULT_BETAS[-1]), figure)
    say(figure)
