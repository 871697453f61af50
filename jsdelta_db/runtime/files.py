"""Files and folders that rows point to: replaced whole or not at all, and verified by their hash."""

import fcntl
import glob
import hashlib
import os
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from jsdelta_db.errors import CheckpointError
from jsdelta_db.runtime.leases import has_ended

BLOCK = 2**20  # bytes
RESTORE = "restore the file from a backup"


def write_atomically(path: Path, content: bytes) -> str:
    """Write a file whole or not at all; return its sha256.

    Raises:
        OSError: the disk is full or the folder cannot be written; nothing is left behind.
    """
    with replace_file(path) as file:
        file.write(content)
    return sha256_of(content)


def read_verified(path: Path, sha256: str | None, advice: str = RESTORE) -> bytes:
    """Return the content of a file that a row points to.

    Args:
        advice: next step of the user if it cannot be used.

    Raises:
        CheckpointError: it is missing, altered or cannot be read.
    """
    try:
        content = path.read_bytes() if path.is_file() else b""
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({error.strerror}); {advice}") from error
    if sha256_of(content) != sha256:
        raise _altered(path, advice)
    return content


def copy_verified(source: Path, target: Path, sha256: str | None) -> None:
    """Copy a file that a row points to, block by block, whole and unaltered or not at all.

    Raises:
        CheckpointError: it is missing or altered.
        OSError: the copy cannot be written; nothing is left behind.
    """
    if not source.is_file():
        raise _altered(source)
    digest = hashlib.sha256()
    with source.open("rb") as original, replace_file(target) as copy:
        while block := original.read(BLOCK):
            digest.update(block)
            copy.write(block)
        if digest.hexdigest() != sha256:
            raise _altered(source)


def _altered(path: Path, advice: str = RESTORE) -> CheckpointError:
    return CheckpointError(f"{path} is missing or altered; {advice}")


@contextmanager
def replace_file(path: Path) -> Iterator[BinaryIO]:
    """Yield a file beside a path, which is synced and takes its place if the block ends well.

    Files that killed processes left aside for the same path are removed.

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


@contextmanager
def replace_folder(folder: Path) -> Iterator[Path]:
    """Yield an empty folder beside a path, which takes its place if the block ends well.

    One process at a time; files that a killed one left aside are removed.

    Raises:
        BlockingIOError: another process is replacing the same folder.
        OSError: the disk is full or a folder cannot be written; the older one stays.
    """
    folder = folder.resolve()  # a link keeps its place, and ``.`` gets a name
    aside, before = folder.with_name(f".{folder.name}.part"), folder.with_name(f".{folder.name}.before")
    aside.mkdir(parents=True, exist_ok=True)
    with locked(aside, wait=False):
        try:
            for left in aside.iterdir():
                shutil.rmtree(left) if left.is_dir() else left.unlink()
            yield aside
            shutil.rmtree(before, ignore_errors=True)
            if folder.exists():
                folder.rename(before)
            try:
                aside.rename(folder)
            except BaseException:
                if before.exists():
                    before.rename(folder)
                raise
        except BaseException:
            shutil.rmtree(aside, ignore_errors=True)
            raise
        # The name is free again: another process may be filling a folder of its own under it.
        shutil.rmtree(before, ignore_errors=True)


@contextmanager
def locked(folder: Path, *, wait: bool) -> Iterator[None]:
    """Hold a folder's lock, which ends with the process at the latest.

    Raises:
        BlockingIOError: another process holds it, and we do not wait.
    """
    lock = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise BlockingIOError(error.errno, "another process is writing it") from None
        yield
    finally:
        os.close(lock)


def sha256_of(content: bytes) -> str:
    """Return the sha256 of some bytes, 64 hex digits."""
    return hashlib.sha256(content).hexdigest()


def sha256_of_file(path: Path) -> str:
    """Return the sha256 of a file of any size; "" if it is not there."""
    if not path.is_file():
        return ""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
