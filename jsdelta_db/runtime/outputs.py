"""Outputs that a user names: files and folders replaced whole or not at all, pipes and devices written to."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from jsdelta_db.errors import UsageError
from jsdelta_db.runtime.files import replace_folder, write_atomically
from jsdelta_db.runtime.reasons import explain


def write_output(path: Path, content: bytes) -> None:
    """Write to where ``--output`` points; a link to a file keeps its place.

    Raises:
        UsageError: it cannot be written; a file that was there is as it was.
    """
    try:
        if _is_open_elsewhere(path):
            # Appended: what stands before it in ``> file`` is not ours to cut.
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_APPEND), "wb") as stream:
                stream.write(content)
        elif path.absolute().parent.is_dir():
            write_atomically(path.resolve(), content)
        else:
            raise FileNotFoundError(2, os.strerror(2))  # a folder that was mistyped is not made
    except OSError as error:
        raise UsageError(
            f"--output {str(path)!r} cannot be written: {explain(error, 'choose another file')}"
        ) from error


def check_free(path: Path, *, force: bool = False) -> None:
    """Check, before any work, that no file would be lost where ``--output`` points.

    Args:
        force: whether the user agrees that it is replaced.

    Raises:
        UsageError: there is a file; or a folder, or none where the file would go.
    """
    if _is_open_elsewhere(path):
        return
    try:
        is_there, is_folder, has_place = path.is_file(), path.is_dir(), path.absolute().parent.is_dir()
    except OSError:  # what cannot be looked at is refused when it is written
        return
    if is_folder or not has_place:
        found = os.strerror(errno.EISDIR if is_folder else errno.ENOENT)
        raise UsageError(f"--output {str(path)!r} cannot be written: {found}; choose another file")
    if is_there and not force:
        raise UsageError(f"--output {str(path)!r} is there already: add --force to replace it")


@contextmanager
def replace_output(folder: Path, mode: int = 0o777) -> Iterator[Path]:
    """Yield an empty folder that takes the place of ``--output`` if the block ends well.

    Raises:
        UsageError: it cannot be written, or another process is writing it; what was there is as it was.
    """
    try:
        with replace_folder(folder, mode) as aside:
            yield aside
    except BlockingIOError:
        raise UsageError(
            f"--output {str(folder)!r}: another process is writing it; wait for it, or choose another folder"
        ) from None
    except OSError as error:
        raise UsageError(
            f"--output {str(folder)!r} cannot be written: {explain(error, 'choose another folder')}"
        ) from error


def _is_open_elsewhere(path: Path) -> bool:
    """Return whether a path is a pipe, a device, or a file of which a process holds the descriptor."""
    if not path.exists() or path.is_dir():
        return False
    folder = Path(os.path.realpath(path.absolute().parent))  # /dev/stdout, /dev/fd/3, /proc/self/fd/1
    return not path.is_file() or folder == Path("/dev") or folder.is_relative_to("/proc")
