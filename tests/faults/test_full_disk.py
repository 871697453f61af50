"""A disk without a byte left: outputs keep what they were, readers answer, and writers say what it is."""

import os
import resource
from pathlib import Path

import pytest

from jsdelta_db.errors import StoreError
from jsdelta_db.store.creating import open_for_writing
from tests.cli.calls import call
from tests.faults.attacks import QUICK_ATTACK, error_line
from tests.faults.test_disk import all_but, small_disk  # noqa: F401 a fixture
from tests.workspaces import copy_of

OUTPUTS = {
    "bugs.csv": ("query", "bugs", "--format", "csv"),
    "sql.json": ("query", "sql", "SELECT 1"),
    "figure.png": ("plot", "histogram"),
    "samples.npz": ("attack", "export"),
}
READERS = (("query", "bugs"), ("query", "sql", "SELECT 1"), ("db", "check"), ("db", "stats"))
WRITERS = (
    QUICK_ATTACK,
    ("train", "--seed", "7", "--epochs", "1"),
    ("doctor", "--repair"),
    ("db", "export", "-o", "export"),
    ("attack", "--offline", *QUICK_ATTACK[1:], "-o", "offline"),
)


@pytest.fixture
def disk(small_disk) -> Path:  # noqa: F811 the fixture
    """A file system of its own."""
    if small_disk is None:
        pytest.skip("no file system may be mounted here")
    return small_disk


def test_outputs_that_find_no_room_are_as_they_were(disk, tiny, monkeypatch, capsys):
    """Each file that was to be replaced keeps its content, and nothing is left beside it."""
    monkeypatch.chdir(disk)
    workspace = copy_of(tiny, disk / "workspace")
    for name in OUTPUTS:
        Path(name).write_text("old")
    with all_but(0, disk):
        for name, command in OUTPUTS.items():
            code, out, err = call(capsys, workspace, *command, "-o", name, "--force")
            assert "No space left on device; free some space" in error_line(code, err, 2), name
            assert out == "", name
    assert {path.name: path.read_text() for path in disk.iterdir() if path.is_file()} == dict.fromkeys(
        OUTPUTS, "old"
    )


def test_a_full_disk_is_told_from_a_want_of_rights(disk, tiny, monkeypatch, capsys):
    """Readers answer as ever; writers name the full disk in one line; with room again the same commands end well."""
    monkeypatch.chdir(disk)
    workspace = copy_of(tiny, disk / "workspace")
    answers = [call(capsys, workspace, *command)[:2] for command in READERS]
    assert [code for code, _ in answers] == [0] * len(READERS)
    with all_but(0, disk):
        assert [call(capsys, workspace, *command)[:2] for command in READERS] == answers
        for command in WRITERS:
            code, _, err = call(capsys, workspace, *command)
            line = error_line(code, err)
            assert "No space left on device; free some space" in line, command
            assert "rights" not in line, command
    for command in WRITERS[2:]:
        code, _, err = call(capsys, workspace, *command)
        assert code == 0, err


def test_files_that_cannot_be_opened_are_told_from_a_want_of_rights(tiny_copy):
    """A process that has all the files open that it may have says so."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.open(os.devnull, os.O_RDONLY)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))  # not one more
    try:
        with pytest.raises(StoreError, match="Too many open files; raise ulimit -n"):
            open_for_writing(tiny_copy.db_url)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
