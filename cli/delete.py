"""``jsdelta db delete``."""

import typer


def register(app: typer.Typer) -> None:
    """Add the command to the group ``db``."""
