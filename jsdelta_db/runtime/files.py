"""Files and folders that rows point to: replaced whole or not at all, and verified by their hash."""

import fcntl
import glob
import hashlib
import os
import shutil
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import BinaryIO

from jsdelta_db.errors import CheckpointError, UsageError
from jsdelta_db.runtime.leases import has_ended
from jsdelta_db.runtime.reasons import explain

BLOCK = 2**20  # bytes
LONGEST_STEM = 100  # bytes of a name; the system allows 255, and host, process and ending come on top
RESTORE = "restore the file from a backup"
TRAIN_OTHERS = f"{RESTORE}, or train other members with jsdelta train and another --seed"


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
        raise CheckpointError(f"{path} cannot be read: {explain(error, advice)}") from error
    if sha256_of(content) != sha256:
        raise _altered(path, advice)
    return content


def copy_verified(source: Path, target: Path, sha256: str | None) -> None:
    """Copy a file that a row points to, block by block, whole and unaltered or not at all.

    Who may not read the file may not read its copy.

    Raises:
        CheckpointError: it is missing or altered.
        OSError: the copy cannot be written; nothing is left behind.
    """
    if not source.is_file():
        raise _altered(source)
    digest = hashlib.sha256()
    with source.open("rb") as original, replace_file(target, source.stat().st_mode & 0o666) as copy:
        while block := original.read(BLOCK):
            digest.update(block)
            copy.write(block)
        if digest.hexdigest() != sha256:
            raise _altered(source)


def _altered(path: Path, advice: str = RESTORE) -> CheckpointError:
    return CheckpointError(f"{path} is missing or altered; {advice}")


@contextmanager
def replace_file(path: Path, mode: int = 0o666) -> Iterator[BinaryIO]:
    """Yield a file beside a path, which is synced and takes its place if the block ends well.

    Files that killed processes left aside for the same path are removed.

    Args:
        mode: rights of a new file, less the umask; one that is replaced hands its own on.

    Raises:
        OSError: the disk is full or the folder cannot be written; nothing is left behind.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    stem = path.name if len(os.fsencode(path.name)) <= LONGEST_STEM else sha256_of(os.fsencode(path.name))
    mark = f".{stem}.{socket.gethostname()}."
    aside = path.with_name(f"{mark}{os.getpid()}.part")
    before = path.stat() if path.is_file() else None
    aside.unlink(missing_ok=True)  # of an earlier process with our number
    try:
        with open(
            aside, "xb", opener=partial(os.open, mode=before.st_mode & 0o666 if before else mode)
        ) as file:
            if before is not None:
                _hand_on_rights(before, file.fileno())
            yield file
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
        sync_folder(path.parent)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise
    for left in path.parent.glob(f"{glob.escape(mark)}*.part"):
        pid = left.name.removeprefix(mark).removesuffix(".part")
        if pid.isdigit() and has_ended(int(pid)):
            left.unlink(missing_ok=True)


@contextmanager
def replace_folder(folder: Path, mode: int = 0o777) -> Iterator[Path]:
    """Yield an empty folder beside a path, which is synced and takes its place if the block ends well.

    One process at a time; files that a killed one left aside are removed. What takes the place of a folder
    or file takes over its rights.

    Args:
        mode: rights of a new folder, less the umask.

    Raises:
        BlockingIOError: another process is replacing the same folder.
        UsageError: somebody may stand in it, or its hidden name is a link.
        OSError: the disk is full or a folder cannot be written; the older one stays.
    """
    folder = folder.resolve()  # a link keeps its place, and ``.`` gets a name
    refuse_to_replace(folder, Path.cwd())
    aside, before = folder.with_name(f".{folder.name}.part"), folder.with_name(f".{folder.name}.before")
    for hidden in (aside, before):
        if hidden.is_symlink():
            raise UsageError(f"{hidden} is a link, where files are put aside; remove it")
    if folder.is_dir():
        mode &= folder.stat().st_mode | stat.S_IRWXU
    aside.mkdir(mode=mode, parents=True, exist_ok=True)
    with locked(aside, wait=False):
        aside.chmod(stat.S_IMODE(aside.stat().st_mode) & mode)
        if before.exists() and not folder.exists():  # killed between two names
            before.rename(folder)
        try:
            for left in aside.iterdir():
                shutil.rmtree(left) if left.is_dir() and not left.is_symlink() else left.unlink()
            yield aside
            _settle(aside, folder)
            shutil.rmtree(before, ignore_errors=True)
            if folder.exists():
                folder.rename(before)
            try:
                aside.rename(folder)
            except BaseException:
                if before.exists():
                    before.rename(folder)
                raise
            sync_folder(folder.parent)
        except BaseException:
            shutil.rmtree(aside, ignore_errors=True)
            raise
        # The name is free again: another process may be filling a folder of its own under it.
        shutil.rmtree(before, ignore_errors=True)


def refuse_to_replace(folder: Path, kept: Path, what: str = "the working folder") -> None:
    """Refuse to put another folder into the place of one that must stay, or of one above it.

    Raises:
        UsageError: names it.
    """
    if kept.resolve().is_relative_to(folder.resolve()):
        raise UsageError(f"{folder} is or holds {what}, which would be replaced; give a folder inside it")


def _settle(aside: Path, folder: Path) -> None:
    """Take over the rights of a folder and of what it holds, and see all to the disk."""
    for path in (aside, *aside.rglob("*")):
        replaced = folder / path.relative_to(aside)
        descriptor = os.open(path, os.O_RDONLY)
        try:
            if replaced.exists() and replaced.is_dir() == path.is_dir():
                _hand_on_rights(replaced.stat(), descriptor)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _hand_on_rights(before: os.stat_result, descriptor: int) -> None:
    """Give a new file the rights of the one that it replaces, and its owner and group where we may."""
    mode = stat.S_IMODE(before.st_mode)
    with suppress(OSError):
        os.fchown(descriptor, before.st_uid, before.st_gid)
    if os.fstat(descriptor).st_gid != before.st_gid:
        mode &= ~stat.S_IRWXG  # meant for another group
    with suppress(OSError):  # a disk without rights; until here they are no wider than before
        os.fchmod(descriptor, mode)


def sync_folder(folder: Path) -> None:
    """See a folder's new names to the disk, where its system can."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # some network disks cannot
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def locked(folder: Path, *, wait: bool) -> Iterator[None]:
    """Hold a folder's lock, which ends with the process at the latest.

    Raises:
        BlockingIOError: another process holds it, and we do not wait.
    """
    with _holding(os.open(folder, os.O_RDONLY | os.O_DIRECTORY), wait=wait):
        yield


@contextmanager
def locked_file(path: Path) -> Iterator[None]:
    """Hold the lock of a file that is there for nothing else; what it holds stays, and no link is followed.

    Raises:
        OSError: it is a link, or cannot be opened.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with _holding(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666), wait=True):
        yield


@contextmanager
def _holding(descriptor: int, *, wait: bool) -> Iterator[None]:
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise BlockingIOError(error.errno, "another process is writing it") from None
        yield
    finally:
        os.close(descriptor)


def sha256_of(content: bytes) -> str:
    """Return the sha256 of some bytes, 64 hex digits."""
    return hashlib.sha256(content).hexdigest()


def sha256_of_file(path: Path) -> str:
    """Return the sha256 of a file of any size; "" if it is not there."""
    if not path.is_file():
        return ""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
