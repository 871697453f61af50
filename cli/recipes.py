"""``jsdelta recipes``."""

from typing import Annotated

import typer

from jsdelta_db.config.recipes import get_recipe, list_recipes, read_recipe_text

from .output import Format, write_rows

app = typer.Typer(no_args_is_help=True, help="Look at the training recipes.")


@app.callback()
def recipes() -> None:
    """Look at the training recipes that come with jsdelta."""


@app.command("list")
def list_command(
    form: Annotated[Format, typer.Option("--format", help="How to print.")] = Format.TABLE,
) -> None:
    """List the recipes.

    Example: jsdelta recipes list
    """
    loaded = [get_recipe(name) for name in list_recipes()]
    facts = ("dataset", "arch", "method", "epochs")
    rows = [
        {"name": each.name, **{fact: getattr(each.train, fact) for fact in facts},
         "members": each.members, "description": each.description}
        for each in loaded
    ]  # fmt: skip
    write_rows(rows, list(rows[0]), form)


@app.command()
def show(name: Annotated[str, typer.Argument(help="Name of the recipe.")]) -> None:
    """Print a recipe as written.

    Example: jsdelta recipes show digits
    """
    typer.echo(read_recipe_text(name), nl=False)
