"""Files that rows refer to: replaced atomically, and verified by their sha256 when read."""

import glob
import hashlib
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from jsdelta_db.errors import CheckpointError
from jsdelta_db.runtime.leases import has_ended

BLOCK = 2**20  # bytes


def write_atomically(path: Path, content: bytes) -> str:
    """Replace a file atomically, and return its sha256.

    Raises:
        OSError: the disk is full or the folder cannot be written; nothing is left behind.
    """
    with replacing(path) as file:
        file.write(content)
    return sha256_of(content)


def read_verified(path: Path, sha256: str | None) -> bytes:
    """Return the content of a file that a row refers to.

    Raises:
        CheckpointError: it is missing or altered.
    """
    content = path.read_bytes() if path.is_file() else b""
    if sha256_of(content) != sha256:
        raise _altered(path)
    return content


def copy_verified(source: Path, target: Path, sha256: str | None) -> None:
    """Copy a file that a row refers to, whole and unaltered or not at all.

    Raises:
        CheckpointError: it is missing or altered.
        OSError: the copy cannot be written; nothing is left behind.
    """
    if not source.is_file():
        raise _altered(source)
    digest = hashlib.sha256()
    with source.open("rb") as original, replacing(target) as copy:
        while block := original.read(BLOCK):
            digest.update(block)
            copy.write(block)
        if digest.hexdigest() != sha256:
            raise _altered(source)


def _altered(path: Path) -> CheckpointError:
    return CheckpointError(f"{path} is missing or altered; restore the file from a backup")


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Open a new file that replaces a path atomically when the block ends without an error.

    It is written beside the path, flushed to disk and renamed. Files that killed processes left beside the
    same path are removed.

    Raises:
        OSError: the disk is full or the folder cannot be written; nothing is left behind.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    mark = f".{path.name}.{socket.gethostname()}."
    aside = path.with_name(f"{mark}{os.getpid()}.part")
    try:
        with aside.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise
    for left in path.parent.glob(f"{glob.escape(mark)}*.part"):
        pid = left.name.removeprefix(mark).removesuffix(".part")
        if pid.isdigit() and has_ended(int(pid)):
            left.unlink(missing_ok=True)


def sha256_of(content: bytes) -> str:
    """Return the sha256 of some bytes, 64 hex digits."""
    return hashlib.sha256(content).hexdigest()


def sha256_of_file(path: Path) -> str:
    """Return the sha256 of a file of any size; "" if it is not there."""
    if not path.is_file():
        return ""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
