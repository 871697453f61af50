"""``jsdelta ensembles``: ensembles of trained or added models."""

from typing import Annotated

import typer

from . import options, printing, selecting
from .bench import open_bench
from .commands import App
from .ensemble_table import write_ensembles
from .groups import with_groups
from .output import note, write_rows

Name = Annotated[str, typer.Argument(help="Name of the ensemble.")]
Reference = Annotated[str, typer.Argument(help="Name or uid of the ensemble.", metavar="NAME")]
Models = Annotated[
    list[str],
    typer.Option(metavar="MODEL", help="A member: a model's name or uid, or NAME:1,2 (repeatable)."),
]

app = App(no_args_is_help=True, help="List ensembles, and make one of models that you added.")


@app.callback()
def ensembles() -> None:
    """List ensembles, and make one of models that you added."""


@app.command()
def add(
    ctx: typer.Context,
    name: Name,
    models: Models,
    trust_code: options.TrustCode = False,
    data_dir: options.DataDir = None,
    device: options.Device = None,
) -> None:
    """Make an ensemble of models for one data set: attacks take the first by default, the others judge.

    Example: jsdelta ensembles add both --models digits:0 --models digits:2
    """
    from jsdelta_db.pipeline.ensembles.added import add_ensemble
    from jsdelta_db.queries.ensembles import ENSEMBLE_KEYS, query_ensembles

    workspace = ctx.obj.workspace(data_dir)
    with open_bench(workspace, trusts_code=trust_code) as bench:
        row, is_new = add_ensemble(bench, name, models, device=device or "auto")
    with ctx.obj.read_store() as connection:
        facts = next(each for each in query_ensembles(connection) if each["uid"] == row.uid)
    keys = [key for key in ENSEMBLE_KEYS if not key.startswith("robust")]
    write_rows([{**facts, "state": "added" if is_new else "found"}], [*keys, "state"])
    note(f"attack its first member: jsdelta attack --eps 3 --ensemble {row.name}")


@app.command(name="list")
@with_groups
def list_all(ctx: typer.Context, *, where: selecting.WhereListed = None, output: printing.Printing) -> None:
    """List the finished ensembles; the same rows as jsdelta query ensembles.

    Example: jsdelta ensembles list
    """
    write_ensembles(ctx, output, where or ())


@app.command()
@with_groups
def show(ctx: typer.Context, *, name: Reference, output: printing.Printing) -> None:
    """Show the members of an ensemble, in their order.

    Example: jsdelta ensembles show digits
    """
    from jsdelta_db.queries.ensembles import MEMBER_KEYS, OF_ENSEMBLE, query_members

    with ctx.obj.read_store() as connection:
        rows = query_members(connection, name)
    write_rows(rows, MEMBER_KEYS, output, facts=OF_ENSEMBLE)
