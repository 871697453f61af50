"""Files that rows point to: written whole or not at all, and recognised by their hash."""

import hashlib
import os
from pathlib import Path

from jsdelta_db.errors import CheckpointError


def write_atomically(path: Path, content: bytes) -> str:
    """Write a file aside, flush it to disk and rename it into place; return its sha256.

    Raises:
        OSError: the disk is full or the folder can not be written; nothing is left behind.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with aside.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise
    return sha256_of(content)


def read_verified(path: Path, sha256: str | None) -> bytes:
    """Return the content of a file that a row points to.

    Raises:
        CheckpointError: it is missing or altered.
    """
    content = path.read_bytes() if path.is_file() else b""
    if sha256_of(content) != sha256:
        raise CheckpointError(f"{path} is missing or altered; restore the file from a backup")
    return content


def sha256_of(content: bytes) -> str:
    """Return the sha256 of some bytes, 64 hex digits."""
    return hashlib.sha256(content).hexdigest()
