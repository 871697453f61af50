"""Figure files: checked before any work, written when it is done."""

import io
from pathlib import Path
from typing import TYPE_CHECKING

from jsdelta_db.errors import UsageError, one_of
from jsdelta_db.runtime.outputs import write_output

if TYPE_CHECKING:
    from matplotlib.figure import Figure


FORMATS = (".png", ".svg")


def check_figure_path(path: Path) -> None:
    """Check that a figure can be written to a path, before any work is done.

    Raises:
        UsageError: another ending, or the folder does not exist.
    """
    if path.suffix.lower() not in FORMATS:
        ending = repr(path.suffix) if path.suffix else "nothing"
        raise UsageError(f"--output {str(path)!r} ends in {ending}: must be {one_of(FORMATS)}")
    if not path.parent.is_dir():
        raise UsageError(
            f"--output {str(path)!r}: the folder {str(path.parent)!r} does not exist; make it first"
        )


def save_figure(figure: "Figure", path: Path) -> None:
    """Write a figure as PNG or SVG, by the file's ending.

    Raises:
        UsageError: see :func:`check_figure_path`; or the file cannot be written.
    """
    check_figure_path(path)
    write_output(path, draw_bytes(figure, path.suffix.lower()))


def draw_bytes(figure: "Figure", ending: str = ".png") -> bytes:
    """Return the content of a figure's file."""
    content = io.BytesIO()
    figure.savefig(content, dpi=150, format=ending.removeprefix("."))
    return content.getvalue()
