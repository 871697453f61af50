"""Unfinished additions of data sets: what was decoded so far, which the same command goes on with."""

import shutil
from contextlib import suppress
from pathlib import Path

from jsdelta_db.runtime.files import locked

FOLDER = "datasets"  # in the workspace
START, END = ".", ".part"


def folder_for(root: Path, name: str) -> Path:
    """Return where images of a data set lie until all of them are decoded."""
    return root / FOLDER / f"{START}{name}{END}"


def list_unfinished(root: Path) -> list[str]:
    """Return the names of data sets of which something is decoded and no process is at work."""
    found = []
    for folder in sorted((root / FOLDER).glob(f"{START}*{END}")):
        with suppress(OSError), locked(folder, wait=False):
            found.append(folder.name.removeprefix(START).removesuffix(END))
    return found


def remove_unfinished(root: Path) -> list[str]:
    """Remove what no process is at work on, and return the names."""
    removed = []
    for name in list_unfinished(root):
        folder = folder_for(root, name)
        with suppress(OSError), locked(folder, wait=False):
            shutil.rmtree(folder)
            removed.append(name)
    return removed
