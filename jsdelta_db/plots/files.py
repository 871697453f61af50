"""Figure files: checked before any work, written when it is done."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from jsdelta_db.errors import UsageError, one_of
from jsdelta_db.plots.style import styled
from jsdelta_db.runtime.outputs import write_output

if TYPE_CHECKING:
    from matplotlib.figure import Figure


FORMATS = (".png", ".svg", ".pdf")
DATA_FORMATS = (".csv", ".json")
DPI = 300
# No dates: the same figure is the same bytes.
METADATA: dict[str, dict[str, str | None]] = {
    ".png": {"Software": "jsdelta"},
    ".svg": {"Date": None, "Creator": "jsdelta"},
    ".pdf": {"CreationDate": None, "Creator": "jsdelta", "Producer": "jsdelta"},
}


def check_figure_path(path: Path, *, force: bool = True) -> None:
    """Check that a figure can be written to a path, before any work is done.

    Args:
        force: whether it may replace a file.

    Raises:
        UsageError: another ending, the folder does not exist, or the file does and must stay.
    """
    _check_path("--output", path, FORMATS, force)


def check_data_path(path: Path, *, force: bool = True) -> None:
    """Check that a figure's numbers can be written to a path; see :func:`check_figure_path`."""
    _check_path("--data", path, DATA_FORMATS, force)


def _check_path(option: str, path: Path, endings: Sequence[str], force: bool) -> None:
    if path.suffix.lower() not in endings:
        ending = repr(path.suffix) if path.suffix else "nothing"
        raise UsageError(f"{option} {str(path)!r} ends in {ending}: must be {one_of(endings)}")
    if not path.parent.is_dir():
        raise UsageError(
            f"{option} {str(path)!r}: the folder {str(path.parent)!r} does not exist; make it first"
        )
    if path.is_file() and not force:
        raise UsageError(f"{option} {str(path)!r} exists; add --force to replace it, or choose another")


def save_figure(figure: "Figure", path: Path) -> None:
    """Write a figure as PNG, SVG or PDF, by the file's ending.

    Raises:
        UsageError: see :func:`check_figure_path`; or the file cannot be written.
    """
    check_figure_path(path)
    write_output(path, draw_bytes(figure, path.suffix.lower()))


def draw_bytes(figure: "Figure", ending: str = ".png") -> bytes:
    """Return the content of a figure's file; of equal figures equal bytes."""
    content = io.BytesIO()
    with styled():
        figure.savefig(content, dpi=DPI, format=ending.removeprefix("."), metadata=METADATA[ending])
    return content.getvalue()
