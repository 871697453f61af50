"""Files and folders are replaced whole or not at all."""

import errno
import hashlib
import os
import socket
import stat
from pathlib import Path

import pytest

from jsdelta_db.errors import CheckpointError
from jsdelta_db.runtime.files import (
    copy_verified,
    locked,
    locked_file,
    read_verified,
    replace_folder,
    sha256_of,
    sha256_of_file,
    write_atomically,
)

GONE = 2**22 + 1  # no process has this number: it is above the largest that Linux allows


def test_content_and_hash(tmp_path):
    """The file holds the bytes, the folders above it are made, and the sha256 comes back."""
    path = tmp_path / "a" / "b" / "file.bin"
    content = bytes(range(256)) * 3
    assert hashlib.sha256(content).hexdigest() == write_atomically(path, content)
    assert content == path.read_bytes()
    assert [path] == list(path.parent.iterdir())


def test_sha256_of_known_bytes():
    """The hash of nothing and of 'abc' are those of FIPS 180-4's examples."""
    assert sha256_of(b"") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert sha256_of(b"abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_an_older_file_is_replaced(tmp_path):
    """The new content takes the old one's place."""
    path = tmp_path / "file"
    write_atomically(path, b"old")
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new"


@pytest.mark.parametrize("failure", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
@pytest.mark.parametrize("old", [None, b"old"])
def test_a_failed_write_leaves_nothing_behind(tmp_path, monkeypatch, failure, old):
    """A full disk or Ctrl-C in the middle keeps the older file and leaves no half-written one."""
    path = tmp_path / "file"
    if old is not None:
        write_atomically(path, old)

    def fail(descriptor):
        raise failure

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(type(failure)):
        write_atomically(path, b"new")
    assert ([path] if old else []) == list(tmp_path.iterdir())
    assert old is None or old == path.read_bytes()


def test_what_a_killed_process_left_aside_is_taken_away(tmp_path):
    """A half-written copy of the same file goes if its process is gone, and stays while the process lives."""
    path, host = tmp_path / "file", socket.gethostname()
    living = tmp_path / f".file.{host}.{os.getppid()}.part"
    elsewhere = tmp_path / f".file.another-{host}.1.part"
    other_file = tmp_path / f".file2.{host}.{GONE}.part"
    for left in (tmp_path / f".file.{host}.{GONE}.part", living, elsewhere, other_file):
        left.write_bytes(b"ha")
    write_atomically(path, b"half or whole")
    assert sorted(tmp_path.iterdir()) == sorted([path, living, elsewhere, other_file])


def test_a_file_in_the_way_is_an_os_error(tmp_path):
    """A folder that cannot be made is an OSError, which the command line turns into one line."""
    (tmp_path / "a").write_bytes(b"")
    with pytest.raises(OSError, match=r"File exists|Not a directory"):
        write_atomically(tmp_path / "a" / "file", b"new")


def test_a_copy_is_what_a_row_says_or_is_not_made(tmp_path):
    """A file is copied whole if its hash is right; else it is named, and nothing is left where it was to go."""
    source, target = tmp_path / "source.bin", tmp_path / "deep" / "target.bin"
    content = b"weights" * 400_000  # more than is copied at a time
    source.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"source\.bin is missing or altered"):
        copy_verified(source, target, sha256_of(b"other"))
    with pytest.raises(CheckpointError, match=r"gone\.bin is missing"):
        copy_verified(tmp_path / "gone.bin", target, sha256_of(content))
    assert [path.name for path in tmp_path.rglob("*.*")] == ["source.bin"]
    copy_verified(source, target, sha256_of(content))
    assert target.read_bytes() == content
    assert sha256_of_file(target) == sha256_of(content)
    assert sha256_of_file(tmp_path / "gone.bin") == ""


@pytest.mark.parametrize("damage", ["missing", "a folder", "altered"])
def test_a_damaged_file_is_refused_with_the_next_step(damage, tmp_path):
    """Only the content that a row's hash stands for is returned; else the file and the advice are named."""
    path = tmp_path / "file.bin"
    write_atomically(path, b"weights")
    assert read_verified(path, sha256_of(b"weights")) == b"weights"
    path.unlink()
    if damage != "missing":
        path.mkdir() if damage == "a folder" else path.write_bytes(b"weight")
    with pytest.raises(CheckpointError, match=r"file\.bin is missing or altered; train again$"):
        read_verified(path, sha256_of(b"weights"), "train again")


def contents_of(folder):
    """Return the content of each file below a folder, by its path."""
    return {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*.txt")}


@pytest.mark.parametrize("old", [None, {}, {"old.txt": "old"}])
def test_a_folder_is_replaced_whole(old, tmp_path):
    """Files written aside take the older folder's place at the end; nothing is left beside it."""
    folder = tmp_path / "folder"
    if old is not None:
        folder.mkdir()
        for name, content in old.items():
            (folder / name).write_text(content)
    for left in (tmp_path / ".folder.part" / "killed", tmp_path / ".folder.before"):
        left.mkdir(parents=True)  # by a process that was killed
        (left / "left.txt").write_text("left")
    with replace_folder(folder) as aside:
        assert list(aside.iterdir()) == []
        (aside / "new.txt").write_text("new")
        # Killed between two names, the other process had left the folder without its own.
        assert contents_of(folder) == ({"left.txt": "left"} if old is None else old)
    assert contents_of(folder) == {"new.txt": "new"}
    assert list(tmp_path.iterdir()) == [folder]


@pytest.mark.parametrize("failure", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_a_failed_replacement_leaves_the_older_folder(failure, tmp_path):
    """A full disk or Ctrl-C keeps the older folder, and leaves nothing beside it."""
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "old.txt").write_text("old")

    def write_half():
        with replace_folder(folder) as aside:
            (aside / "new.txt").write_text("new")
            raise failure

    with pytest.raises(type(failure)):
        write_half()
    assert contents_of(tmp_path) == {"folder/old.txt": "old"}


def test_a_folder_that_cannot_be_put_in_place_leaves_the_older_one(tmp_path, monkeypatch):
    """The older folder comes back if the new one cannot be renamed."""
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "old.txt").write_text("old")
    rename = Path.rename

    def fail_for_aside(path, target):
        if path.suffix == ".part":
            raise OSError(errno.EIO, "Input/output error")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", fail_for_aside)
    with pytest.raises(OSError, match="Input/output"), replace_folder(folder):
        pass
    assert contents_of(tmp_path) == {"folder/old.txt": "old"}


def test_two_processes_do_not_replace_one_folder(tmp_path):
    """The second is refused while the first writes; a link to the folder is the same folder."""
    folder, link = tmp_path / "folder", tmp_path / "link"
    folder.mkdir()
    link.symlink_to(folder)
    with replace_folder(folder) as aside:
        (aside / "new.txt").write_text("first")
        with pytest.raises(BlockingIOError, match="another process is writing it"), replace_folder(link):
            pass
    assert contents_of(folder) == {"new.txt": "first"}
    with replace_folder(link) as aside:
        (aside / "new.txt").write_text("second")
    assert (link.is_symlink(), contents_of(folder)) == (True, {"new.txt": "second"})


def test_a_lock_ends_with_its_block(tmp_path):
    """A held lock refuses whoever does not wait, and is free afterwards."""
    with locked(tmp_path, wait=True), pytest.raises(BlockingIOError), locked(tmp_path, wait=False):
        pass
    with locked(tmp_path, wait=False):
        pass


def test_a_lock_is_a_file_that_keeps_what_it_holds(tmp_path):
    """A lock is opened without cutting it short; through a link it would open somebody else's file."""
    lock, mine = tmp_path / ".jsdelta.lock", tmp_path / "mine"
    lock.write_text("kept")
    with locked_file(lock):
        assert lock.read_text() == "kept"
    mine.write_text("mine")
    lock.unlink()
    lock.symlink_to(mine)
    with pytest.raises(OSError, match=r"symbolic links.*jsdelta\.lock"), locked_file(lock):
        pass
    assert mine.read_text() == "mine"


def test_all_is_on_the_disk_before_it_gets_its_name(tmp_path, monkeypatch):
    """Every file and folder is synced before the rename, and the folder above it afterwards."""
    synced, rename, sync = [], Path.rename, os.fsync

    def note_sync(descriptor):
        synced.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", note_sync)
    monkeypatch.setattr(
        Path, "rename", lambda path, target: (synced.append("rename"), rename(path, target))[1]
    )
    with replace_folder(tmp_path / "new") as aside:
        (aside / "tables").mkdir()
        (aside / "tables" / "a").touch()
    assert synced == [".new.part", "tables", "a", "rename", tmp_path.name]


def test_a_copy_is_as_closed_as_its_source(tmp_path):
    """A file of 0600 is copied to one of 0600."""
    source, target = tmp_path / "source", tmp_path / "target"
    write_atomically(source, b"weights")
    source.chmod(0o600)
    copy_verified(source, target, sha256_of(b"weights"))
    assert stat.S_IMODE(target.stat().st_mode) == 0o600


def test_a_folder_that_another_process_fills_next_is_left_alone(tmp_path, monkeypatch):
    """Once a folder is in place its hidden name belongs to the next process."""
    place, rename = tmp_path / "export", Path.rename

    def rename_and_begin(path, target):
        moved = rename(path, target)
        if path.name == ".export.part":
            path.mkdir()
            (path / "begun").touch()
        return moved

    monkeypatch.setattr(Path, "rename", rename_and_begin)
    with replace_folder(place) as aside:
        (aside / "done").touch()
    assert [file.name for file in place.iterdir()] == ["done"]
    assert (tmp_path / ".export.part" / "begun").exists()
