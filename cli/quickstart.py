"""``jsdelta quickstart``: the whole way on a small data set."""

import shutil
from pathlib import Path

import typer

from jsdelta_db.config.evaluation import DEFAULT_BETAS

from .attack_options import RoleOptions
from .attack_run import run_attack
from .bench import open_bench
from .bug_table import print_summary
from .output import note, say

EPS_255 = (1, 3, 5, 8)  # the paper's


def quickstart(ctx: typer.Context) -> None:
    """Train five small models on digits, attack one, and show how many of its samples are bugs.

    Example: jsdelta quickstart
    """
    from jsdelta_db.config.attack import AttackConfig
    from jsdelta_db.config.recipes import get_recipe
    from jsdelta_db.pipeline.train import train_ensemble
    from jsdelta_db.plots.files import save_figure
    from jsdelta_db.plots.histogram import draw_histogram
    from jsdelta_db.plots.panels import Sheet
    from jsdelta_db.plots.style import WIDTHS
    from jsdelta_db.plots.text_histogram import text_histogram
    from jsdelta_db.queries.bugs import js_delta_by_eps
    from jsdelta_db.queries.captions import describe
    from jsdelta_db.queries.distributions import RADIUS, query_histogram
    from jsdelta_db.queries.selection import Selection, list_evaluations

    workspace = ctx.obj.workspace()
    note("1/3  training five models on handwritten digits")
    with open_bench(workspace, makes_store=True) as bench:
        ensemble = train_ensemble(bench, get_recipe("digits"))
    note("2/3  attacking the first towards every wrong label; the other four evaluate")
    configs = [AttackConfig(eps=levels / 255, targets="all") for levels in EPS_255]
    evaluations, _ = run_attack(workspace, configs, RoleOptions(ensemble.uid))
    note("3/3  querying the store")
    typer.echo(err=True)
    print_summary(workspace, evaluations)
    with ctx.obj.read_store() as connection:
        selection = Selection(uids=evaluations)
        js_delta = js_delta_by_eps(connection, selection)
        table = query_histogram(connection, betas=DEFAULT_BETAS, by=RADIUS, selection=selection)
        facts = describe(list_evaluations(connection, selection))
    figure = workspace.root / "jsdelta-quickstart.png"
    sheet = Sheet(WIDTHS["page"], "Did features move, or was it a blind spot?", facts)
    save_figure(draw_histogram(table, DEFAULT_BETAS, sheet), figure)
    typer.echo("\nJSΔ of the successful samples, share by range:\n")
    columns = shutil.get_terminal_size().columns  # 80 where there is no terminal
    typer.echo("\n".join(text_histogram(js_delta, columns)))
    typer.echo()
    say(f"figure: {_short(figure)}")
    typer.echo(
        "\nJSΔ near 0: no other model noticed, a blind spot of the one attacked. Near 1: features moved.\n"
        "next:  jsdelta query bugs --beta 0.01 --by eps,label-pair\n"
        "       jsdelta attack --eps 3 --attacked all\n"
        "       jsdelta plot histogram -o histogram.svg\n"
        "       jsdelta ui"
    )


def _short(path: Path) -> Path:
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
