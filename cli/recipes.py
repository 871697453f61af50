"""``jsdelta recipes``: the training recipes of the package."""

from typing import Annotated

import typer

from . import printing
from .commands import App
from .groups import with_groups
from .output import write_rows

app = App(no_args_is_help=True, help="Show the training recipes.")


@app.callback()
def recipes() -> None:
    """Show the training recipes that come with jsdelta."""


@app.command("list")
@with_groups
def list_command(output: printing.Printing) -> None:
    """List the recipes.

    Example: jsdelta recipes list
    """
    from jsdelta_db.config.recipes import get_recipe, list_recipes

    loaded = [get_recipe(name) for name in list_recipes()]
    facts = ("dataset", "arch", "method", "epochs")
    rows = [
        {"name": each.name, **{fact: getattr(each.train, fact) for fact in facts},
         "members": each.members, "tried": each.tried, "description": each.description}
        for each in loaded
    ]  # fmt: skip
    write_rows(rows, list(rows[0]), output)


@app.command()
def show(name: Annotated[str, typer.Argument(help="Name of the recipe.")]) -> None:
    """Print a recipe as written.

    Example: jsdelta recipes show digits
    """
    from jsdelta_db.config.recipes import read_recipe_text

    typer.echo(read_recipe_text(name), nl=False)
