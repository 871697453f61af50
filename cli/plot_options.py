"""Options that the figures share, and what is done with a figure that was drawn."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .groups import Group
from .output import say, write_rows
from .printing import Format, Output

if TYPE_CHECKING:
    from jsdelta_db.figures.drawn import Drawn, Setting
    from jsdelta_db.queries.grouping import Table

FigureFile = Annotated[
    Path | None,
    typer.Option(
        "--output", "-o", metavar="FILE", help="A .png, .svg or .pdf file; default: jsdelta-(figure).png."
    ),
]
Title = Annotated[str | None, typer.Option(metavar="TEXT", help="In place of the figure's own; '' for none.")]
Width = Annotated[str, typer.Option(metavar="column|page|CM", help="Width on paper: 8 cm, 17 cm, or any.")]
Data = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Write the figure's numbers, too: .csv or .json.")
]
Force = Annotated[bool, typer.Option("--force", help="Replace files that are there.")]


@dataclass(frozen=True, slots=True)
class FigureOptions:
    """Where a figure goes and how it is set."""

    output: FigureFile = None
    title: Title = None
    width: Width = "column"
    data: Data = None
    force: Force = False

    def check(self, kind: str) -> tuple[Path, "Setting"]:
        """Return the figure's path and setting, after a look at all options, before any work.

        Args:
            kind: of figure, which names the default file.

        Raises:
            UsageError: one is not valid, or a file is there and --force is not.
        """
        from jsdelta_db.figures.drawn import Setting
        from jsdelta_db.plots.files import check_data_path, check_figure_path

        setting = Setting(self.title, self.width)
        path = self.output or Path(f"jsdelta-{kind}.png")
        check_figure_path(path, force=self.force)
        if self.data is not None:
            check_data_path(self.data, force=self.force)
        return path, setting

    def save(self, drawn: "Drawn[Table]", path: Path) -> None:
        """Write the figure and, where asked, the numbers that it shows; name both on stdout."""
        from jsdelta_db.plots.files import save_figure

        save_figure(drawn.figure, path)
        say(path)
        if self.data is not None:
            form = Format.CSV if self.data.suffix.lower() == ".csv" else Format.JSON
            rows = drawn.table.rows
            write_rows(rows, list(rows[0]), Output(form, self.data, force=self.force))
            say(self.data)


Drawing = Annotated[FigureOptions, Group(FigureOptions)]
