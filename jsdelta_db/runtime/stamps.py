"""Stamps: a large file's size and time from when it was hashed, beside it, so that it is not hashed again."""

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

from jsdelta_db.runtime.files import sha256_of_file, write_atomically


def has_hash(path: Path, sha256: str) -> bool:
    """Return whether a file has a hash: by its stamp, or by its content where size or time are new."""
    if not path.is_file():
        return False
    if _read(path) == _describe(path, sha256):
        return True
    if sha256_of_file(path) != sha256:
        return False
    write_stamp(path, sha256)
    return True


def write_stamp(path: Path, sha256: str) -> None:
    """Note that a file with its present size and time has a hash."""
    with suppress(OSError):  # a folder that is not ours: hashed again next time
        write_atomically(stamp_path(path), (json.dumps(_describe(path, sha256)) + "\n").encode())


def stamp_path(path: Path) -> Path:
    """Return where a file's stamp is."""
    return path.with_name(f"{path.name}.stamp")


def _describe(path: Path, sha256: str) -> dict[str, Any]:
    stat = path.stat()
    return {"size": stat.st_size, "mtime_ns": stat.st_mtime_ns, "sha256": sha256}


def _read(path: Path) -> object:
    try:
        return json.loads(stamp_path(path).read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
