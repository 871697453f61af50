"""Printing options: in which format rows are written, and where."""

import sys
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from jsdelta_db.errors import UsageError

from .groups import Group


class Format(StrEnum):
    """How rows are written."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"
    JSONL = "jsonl"
    MARKDOWN = "markdown"
    LATEX = "latex"
    PARQUET = "parquet"


ENDINGS = {
    ".txt": Format.TABLE, ".csv": Format.CSV, ".json": Format.JSON, ".jsonl": Format.JSONL,
    ".md": Format.MARKDOWN, ".tex": Format.LATEX, ".parquet": Format.PARQUET,
}  # fmt: skip
STDOUT = Path("-")

Form = Annotated[
    Format | None,
    typer.Option("--format", help="Output format; default: by the ending of -o FILE, else a table."),
]
OutputFile = Annotated[
    Path | None,
    typer.Option("--output", "-o", metavar="FILE", help=f"Write to a file: {', '.join(ENDINGS)}."),
]
Header = Annotated[bool, typer.Option("--header/--no-header", help="Column names above the rows.")]
Force = Annotated[bool, typer.Option("--force", help="Replace the file of -o if there is one.")]


@dataclass(frozen=True, slots=True)
class Output:
    """How rows are printed, and where: stdout if there is no path.

    Made before a command's work, so that a slip costs nothing.

    Attributes:
        asked: the format as it was asked for; None for what the file's ending says, or a table.

    Raises:
        UsageError: an ending that says another format or none, a file that is there, or bytes for a terminal.
    """

    asked: Form = None
    path: OutputFile = None
    header: Header = True
    force: Force = False

    def __post_init__(self) -> None:
        name, by_ending = str(self.path), ENDINGS.get(self._ending)
        if self.asked and by_ending and by_ending != self.asked:
            raise UsageError(
                f"--output {name!r} and --format {self.asked.value} contradict each other: "
                f"{self._ending} is {by_ending.value}; change one of them"
            )
        if self._ending and not by_ending and not self.asked:
            raise UsageError(
                f"--output {name!r} ends in {self._ending!r}: must end in {', '.join(ENDINGS)}; "
                "or give --format"
            )
        if self.form is Format.PARQUET and not self.file and sys.stdout.isatty():
            raise UsageError("--format parquet is not for a terminal; give a file, such as -o rows.parquet")
        if self.file is not None:
            from jsdelta_db.runtime.outputs import check_free

            check_free(self.file, force=self.force)

    @property
    def file(self) -> Path | None:
        """The file to write; None for stdout."""
        return None if self.path == STDOUT else self.path

    @property
    def _ending(self) -> str:
        return self.file.suffix.lower() if self.file else ""

    @property
    def form(self) -> Format:
        """The format."""
        return self.asked or ENDINGS.get(self._ending, Format.TABLE)

    @property
    def is_for_people(self) -> bool:
        """Whether cells are short and marks explained."""
        return self.form in (Format.TABLE, Format.MARKDOWN, Format.LATEX)


Printing = Annotated[Output, Group(Output)]
# Beside another --output, of a figure.
PrintingFormat = Annotated[Output, Group(Output, without=("path", "header", "force"))]
