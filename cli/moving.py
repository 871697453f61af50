"""``jsdelta db export`` and ``jsdelta db import``: stores moved as files or rows."""

from pathlib import Path
from typing import Annotated

import typer

from . import printing
from .groups import with_groups
from .output import note, say, write_rows
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
ImportFiles = Annotated[bool, typer.Option("--files/--no-files", help="With the files that rows refer to.")]
FilesFrom = Annotated[
    Path | None,
    typer.Option(metavar="FOLDER", help="Workspace of a server's files; default: this workspace."),
]


def export(ctx: typer.Context, output: Destination, files: ExportFiles = True) -> None:
    """Write all finished runs as Parquet files, with the files that they refer to.

    Example: jsdelta db export -o backup
    """
    from jsdelta_db.exchange.exporting import export_store

    done = export_store(ctx.obj.workspace(), output, TerminalProgress(), with_files=files)
    say(output)
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
    output: printing.Printing,
) -> None:
    """Add the runs of another store or an export to this store, whose own stay unchanged.

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
        note(f"{count:,} unfinished runs left out; only finished ones are moved")
