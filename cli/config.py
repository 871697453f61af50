"""``jsdelta config``: the settings and their sources."""

from dataclasses import asdict

import typer

from . import options, printing
from .commands import App
from .groups import with_groups
from .output import write_rows

app = App(no_args_is_help=True, help="Show the settings.")


@app.callback()
def config() -> None:
    """Show the settings."""


@app.command()
@with_groups
def show(ctx: typer.Context, *, data_dir: options.DataDir = None, output: printing.Printing) -> None:
    """Show each setting, its value and where it comes from: a flag, an environment variable, the default.

    Passwords are hidden; nothing is opened or made.

    Example: jsdelta config show
    """
    from jsdelta_db.maintenance.settings import describe_settings

    rows = [asdict(each) for each in describe_settings(ctx.obj.folder, data_dir)]
    write_rows(rows, ("setting", "value", "source"), output)
