"""``jsdelta db export`` and ``jsdelta db import``: stores on the move."""

from pathlib import Path
from typing import Annotated

import typer

from . import options
from .groups import with_groups
from .output import note, write_rows
from .progress import TerminalProgress

IMPORT_KEYS = ("kind", "found", "new")

Destination = Annotated[
    Path,
    typer.Option(
        "--output", "-o", metavar="FOLDER", help="A folder that is new, empty or an earlier export."
    ),
]
ExportFiles = Annotated[
    bool, typer.Option("--files/--no-files", help="With checkpoints, logits, samples and data sets.")
]
Source = Annotated[
    str,
    typer.Argument(
        metavar="SOURCE", help="An export, a workspace, a SQLite file or postgresql://USER@HOST/DATABASE."
    ),
]
ImportFiles = Annotated[bool, typer.Option("--files/--no-files", help="With the files that rows rest on.")]
FilesFrom = Annotated[
    Path | None,
    typer.Option(metavar="FOLDER", help="Workspace of a server's files; default: this workspace."),
]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(export)
    app.command("import")(import_)


def export(ctx: typer.Context, output: Destination, files: ExportFiles = True) -> None:
    """Write all finished work as Parquet files, and the files that it rests on.

    Example: jsdelta db export -o backup
    """
    from jsdelta_db.exchange.exporting import export_store

    done = export_store(ctx.obj.workspace(), output, TerminalProgress(), with_files=files)
    typer.echo(output)
    _note_left_out(done.left_out)
    files_too = "no files" if done.files is None else f"{done.files:,} files"
    note(f"{done.rows:,} rows, {files_too}; jsdelta db import reads them")


@with_groups
def import_(
    ctx: typer.Context,
    *,
    source: Source,
    files: ImportFiles = True,
    files_from: FilesFrom = None,
    output: options.PrintingFormat,
) -> None:
    """Add what another store or an export holds to this store; what is here stays as it is.

    Example: jsdelta db import other-workspace
    """
    from jsdelta_db.exchange.importing import import_store

    done = import_store(
        ctx.obj.workspace(), source, TerminalProgress(), with_files=files, files_from=files_from
    )
    rows = [{"kind": kind, "found": found, "new": done.new[kind]} for kind, found in done.found.items()]
    write_rows(rows, IMPORT_KEYS, output)
    _note_left_out(done.left_out)
    new = sum(done.new.values())
    log = "; jsdelta doctor --repair shows them in MLflow" if new else ""
    note(f"{new:,} new of {sum(done.found.values()):,} runs, {done.files:,} files copied{log}")


def _note_left_out(count: int) -> None:
    if count:
        note(f"{count:,} unfinished runs left out; only what is finished travels")
