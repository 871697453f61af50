"""What a user names as an output is replaced whole or not at all, and takes over the rights of what was there."""

import errno
import os
import stat
import threading
from pathlib import Path

import pytest

from jsdelta_db.errors import UsageError
from jsdelta_db.runtime.outputs import replace_output, write_output


def mode_of(path: Path) -> int:
    """Return the rights of a file or folder."""
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize(
    ("number", "advice"),
    [
        (errno.ENOSPC, "No space left on device; free some space"),
        (errno.EDQUOT, "Disk quota exceeded; free some space"),
        (errno.EROFS, "Read-only file system; the disk is mounted read-only: choose another place"),
        (errno.EMFILE, "Too many open files; raise ulimit -n"),
        (errno.EACCES, "Permission denied; choose another file"),
    ],
)
def test_a_write_that_fails_keeps_the_file_and_says_why(number, advice, tmp_path, monkeypatch):
    """The file that was there stays, nothing is left beside it, and the line tells the cause from a want of rights."""
    path = tmp_path / "table.csv"
    path.write_text("old")

    def fail(descriptor):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(UsageError) as caught:
        write_output(path, b"new")
    assert str(caught.value) == f"--output {str(path)!r} cannot be written: {advice}"
    assert {each.name: each.read_text() for each in tmp_path.iterdir()} == {"table.csv": "old"}


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o664])
def test_a_file_keeps_its_rights(mode, tmp_path):
    """Whoever could not read the file before can not read the new one."""
    path = tmp_path / "table.csv"
    path.touch()
    path.chmod(mode)
    write_output(path, b"new")
    assert (mode_of(path), path.read_bytes()) == (mode, b"new")


def test_a_link_keeps_its_place(tmp_path):
    """What the link points to is replaced, or made; the link stays."""
    file, link = tmp_path / "there" / "file", tmp_path / "link"
    file.parent.mkdir()
    link.symlink_to(file)
    for content in (b"first", b"second"):
        write_output(link, content)
        assert (link.is_symlink(), file.read_bytes()) == (True, content)


def test_a_pipe_is_written_and_stays_a_pipe(tmp_path):
    """A reader of a named pipe gets the content."""
    pipe, got = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: got.append(pipe.read_bytes()))
    reader.start()
    write_output(pipe, b"content")
    reader.join()
    assert (got, pipe.is_fifo(), [each.name for each in tmp_path.iterdir()]) == ([b"content"], True, ["pipe"])


def test_a_descriptor_is_written_behind_what_it_holds(tmp_path):
    """/dev/fd/N is the file that somebody holds open, and not a name for another one."""
    path = tmp_path / "log"
    with path.open("wb") as file:
        file.write(b"before ")
        file.flush()
        write_output(Path(f"/dev/fd/{file.fileno()}"), b"content")
        assert os.fstat(file.fileno()).st_ino == path.stat().st_ino
    assert path.read_bytes() == b"before content"
    write_output(Path(os.devnull), b"content")


@pytest.mark.parametrize("length", [1, 101, 255])
def test_names_of_every_length_are_written(length, tmp_path):
    """A name may be as long as the system allows, although it is written beside its place first."""
    path = tmp_path / ("x" * length)
    write_output(path, b"content")
    assert [each.name for each in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("name", ["no/folder/file", "folder"])
def test_what_is_no_place_for_a_file_is_named(name, tmp_path):
    """A folder that was mistyped is not made, and one that is there is not replaced."""
    (tmp_path / "folder").mkdir()
    with pytest.raises(UsageError, match=r"cannot be written: .*; choose another file"):
        write_output(tmp_path / name, b"new")
    assert [each.name for each in tmp_path.iterdir()] == ["folder"]


def test_a_folder_and_its_files_keep_their_rights(tmp_path):
    """A replaced folder of 0700 with a file of 0600 stays closed, also while it is written."""
    folder = tmp_path / "folder"
    folder.mkdir(mode=0o700)
    (folder / "kept").touch(mode=0o600)
    with replace_output(folder) as aside:
        assert mode_of(aside) == 0o700
        for name in ("kept", "new"):
            (aside / name).touch(mode=0o644)
    assert {path.name: mode_of(path) for path in (folder, *folder.iterdir())} == {
        "folder": 0o700,
        "kept": 0o600,
        "new": 0o644,
    }


@pytest.mark.parametrize("name", [".", "..", "../work", "link"])
def test_the_working_folder_is_not_replaced(name, tmp_path, monkeypatch):
    """The folder that one stands in, and those above it, keep their place: the shell would stand nowhere."""
    work = tmp_path / "work"
    work.mkdir()
    (tmp_path / "link").symlink_to(work)
    monkeypatch.chdir(work)
    before = work.stat().st_ino
    place = tmp_path / name if name == "link" else Path(name)
    with pytest.raises(UsageError, match="is or holds the working folder"), replace_output(place):
        pass
    assert work.stat().st_ino == before
    with replace_output(Path("inside")) as aside:
        (aside / "file").touch()
    assert [path.name for path in work.rglob("*")] == ["inside", "file"]


@pytest.mark.parametrize("hidden", [".export.part", ".export.before"])
def test_a_link_under_a_hidden_name_is_not_followed(hidden, tmp_path):
    """A folder that is somewhere else is not emptied because a link of our hidden name leads there."""
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis").write_text("mine")
    (tmp_path / hidden).symlink_to(mine)
    with pytest.raises(UsageError, match="is a link"), replace_output(tmp_path / "export"):
        pass
    assert (mine / "thesis").read_text() == "mine"
