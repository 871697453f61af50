"""Addresses of MLflow's SQLite files, for folders of any name.

MLflow and SQLAlchemy read ``%``, ``?`` and bytes that are no text in an address as something else than the
file's name, and each of them otherwise. Such a folder is reached over a link with a plain name.
"""

import atexit
import re
import shutil
import tempfile
from functools import lru_cache
from pathlib import Path

from jsdelta_db.config.locations import sqlite_url

PLAIN = re.compile(r"[\w/. ,:=@~+()-]*", re.ASCII)


@lru_cache
def find_address(file: Path) -> str:
    """Return an address that names this file and no other, in this process and while it lives."""
    if PLAIN.fullmatch(str(file)):
        return sqlite_url(file)
    folder = Path(tempfile.mkdtemp(prefix="jsdelta-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    link = folder / "workspace"
    link.symlink_to(file.parent, target_is_directory=True)
    return sqlite_url(link / file.name)
