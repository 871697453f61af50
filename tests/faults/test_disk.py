"""Disks that are full, stores that may not be written, files that were cut off: one line, and nothing lost."""

import os
import resource
import shutil
import sqlite3
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from jsdelta_db.config.locations import Workspace
from jsdelta_db.pipeline.evaluation import work
from jsdelta_db.store.schema import HEAD_REVISION, VERSION_TABLE
from tests.faults.attacks import (
    QUICK_ATTACK,
    QUICK_CHUNK_SIZE,
    end_of,
    error_line,
    finish,
    never_stopped,
    run_here,
    start_installed,
)
from tests.workspaces import copy_of, in_chunks_of

# In chunks that its process chooses itself: eight, of about 100 kB each.
LONG_ATTACK = ("attack", "--eps", "4", "--eps", "6", "--targets", "all", "--images", "100", "--steps", "10")
NOBODY = 65534
PAGE = 4096  # bytes of SQLite's
ROOM = 64 * 2**20  # bytes; a copy of the tiny store takes a few MB
KEPT = ("sample", "score", "evaluation_baseline", "model", "attack_chunk")


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch):
    in_chunks_of(QUICK_CHUNK_SIZE, monkeypatch)


def rows_of(workspace: Workspace) -> dict[str, set[tuple[Any, ...]]]:
    """Return the committed rows that must never go away; a chunk's only once it is finished."""
    with closing(sqlite3.connect(workspace.root / "jsdelta.db")) as connection:
        rows = {name: set(connection.execute(f"SELECT * FROM {name}")) for name in KEPT[:-1]}
        rows["attack_chunk"] = set(connection.execute("SELECT * FROM attack_chunk WHERE status = 'finished'"))
    return rows


def assert_kept(before: dict[str, set[tuple[Any, ...]]], workspace: Workspace) -> None:
    """Make sure that every row of before is still there."""
    now = rows_of(workspace)
    assert {name: rows - now[name] for name, rows in before.items()} == {name: set() for name in before}


# ---- no space left


@contextmanager
def limited_files(size: int) -> Iterator[None]:
    """Let no file of this process grow above a size: what a quota does, for root as for anybody."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("size", [0, 6_000, 70_000], ids=["nothing", "a page", "some pages"])
def test_quota_stops_the_attack_in_one_line(size, sqlite_workspace, quick_end, capsys):
    """Whatever cannot grow, the store's log or a chunk's file: exit 1, no row is lost, later the same command ends well."""
    before = rows_of(sqlite_workspace)
    with limited_files(size):
        code, out, err = run_here(capsys, sqlite_workspace, *QUICK_ATTACK)
    assert "cannot be" in error_line(code, err)
    assert out == ""
    assert_kept(before, sqlite_workspace)
    finish(capsys, sqlite_workspace, QUICK_ATTACK, quick_end)


@pytest.fixture
def small_disk(tmp_path) -> Iterator[Path | None]:
    """A file system of its own with little room; None where none may be mounted."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={ROOM}", "tmpfs", folder], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        yield None
        return
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


@contextmanager
def all_but(room: int, folder: Path) -> Iterator[None]:
    """Fill a disk up, but for some bytes."""
    ballast = folder / "ballast"
    with ballast.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, shutil.disk_usage(folder).free - room)
    try:
        yield
    finally:
        ballast.unlink()


@pytest.mark.parametrize("room", [0, 20_000, 200_000, 600_000])
def test_full_disk_stops_the_attack_in_one_line(room, small_disk, tiny, tmp_path, quick_end, capsys):
    """On a disk that is full, at once or soon: exit 1, no row is lost, with space again the same command ends well."""
    workspace = copy_of(tiny, (small_disk or tmp_path) / "workspace")
    before = rows_of(workspace)
    with all_but(room, small_disk) if small_disk else limited_files(room):
        code, out, err = run_here(capsys, workspace, *QUICK_ATTACK)
        if code == 0:
            assert room == 600_000, "there was room after all"
        else:
            error_line(code, err)
            assert out == ""
    assert_kept(before, workspace)
    finish(capsys, workspace, QUICK_ATTACK, quick_end)


@pytest.mark.slow
def test_full_disk_stops_a_real_process(small_disk, tiny, tmp_path, monkeypatch, capsys):
    """The installed command meets a full disk half-way: one line, exit 1, finished chunks are kept and not made again."""
    monkeypatch.undo()  # a process of its own chooses its chunks itself
    expected = end_of(never_stopped(tiny, tmp_path / "calm" / "workspace", LONG_ATTACK))
    room = 500_000
    workspace = copy_of(tiny, (small_disk or tmp_path) / "workspace")
    with all_but(room, small_disk) if small_disk else limited_files(room):
        process = start_installed(workspace, *LONG_ATTACK)
        _, err = process.communicate()
    error_line(process.returncode, err)
    kept = rows_of(workspace)
    finish(capsys, workspace, LONG_ATTACK, expected)
    assert_kept(kept, workspace)


# ---- no right to write


@pytest.fixture
def public_workspace(tiny) -> Iterator[Workspace]:
    """The tiny store in a folder that another user may enter."""
    folder = Path(tempfile.mkdtemp(prefix="jsdelta-"))
    folder.chmod(0o755)
    yield copy_of(tiny, folder / "workspace")
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755)
    shutil.rmtree(folder)


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Take the right to write away from all that is below a folder, and from root its power over that."""
    paths = [folder, *folder.rglob("*")]
    before = [(path, path.stat().st_mode) for path in paths]
    for path in paths:
        path.chmod(0o555 if path.is_dir() else 0o444)
    user = os.geteuid()
    if user == 0:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(user)
        for path, mode in before:
            if path.exists():
                path.chmod(mode)


def test_read_only_store_is_refused_to_writers_and_open_to_readers(public_workspace, quick_end, capsys):
    """Without the right to write: an attack is one line and exit 1, queries answer, nothing is changed; with it again all goes on."""
    before = rows_of(public_workspace)
    query = ("query", "bugs", "--format", "json")
    answer = run_here(capsys, public_workspace, *query)
    assert answer[0] == 0
    with read_only(public_workspace.root):
        assert not os.access(public_workspace.root / "jsdelta.db", os.W_OK, effective_ids=True)
        code, out, err = run_here(capsys, public_workspace, *QUICK_ATTACK)
        assert "jsdelta.db cannot be opened or written" in error_line(code, err)
        assert out == ""
        assert run_here(capsys, public_workspace, *query) == answer
    assert_kept(before, public_workspace)
    finish(capsys, public_workspace, QUICK_ATTACK, quick_end)


def test_rights_that_go_in_the_middle_keep_finished_chunks(public_workspace, quick_end, monkeypatch, capsys):
    """Taken away between two chunks: one line, exit 1, the first chunk is kept; given back, the others follow."""
    judge, calls = work.judge, []
    taken_away = read_only(public_workspace.root)

    def judge_and_lose(*given):
        calls.append(1)
        if len(calls) == 2:
            taken_away.__enter__()
        return judge(*given)

    monkeypatch.setattr(work, "judge", judge_and_lose)
    try:
        code, _, err = run_here(capsys, public_workspace, *QUICK_ATTACK)
    finally:
        taken_away.__exit__(None, None, None)
    monkeypatch.setattr(work, "judge", judge)
    assert len(calls) == 2
    assert "cannot be" in error_line(code, err)
    kept = rows_of(public_workspace)
    assert len(kept["attack_chunk"]) == 2 + 2  # the tiny store's two attacks have a chunk each
    finish(capsys, public_workspace, QUICK_ATTACK, quick_end)
    assert_kept(kept, public_workspace)


# ---- files that are not what they were


COMMANDS = {
    "attack": QUICK_ATTACK, "bugs": ("query", "bugs"), "check": ("db", "check"), "stats": ("db", "stats"),
    "upgrade": ("db", "upgrade"),
}  # fmt: skip


@pytest.mark.parametrize("pages_left", [1, 20, -20, -1])
def test_store_that_was_cut_off_is_named_and_left_alone(pages_left, sqlite_workspace, quick_end, capsys):
    """A store that lost its end, by a page or by most of it: each command says so in one line; the backup then serves."""
    path = sqlite_workspace.root / "jsdelta.db"
    whole = path.read_bytes()
    cut = whole[: pages_left * PAGE]
    path.write_bytes(cut)
    for arguments in COMMANDS.values():
        code, _, err = run_here(capsys, sqlite_workspace, *arguments)
        assert "damaged" in error_line(code, err), arguments
        assert path.read_bytes() == cut, arguments
    path.write_bytes(whole)
    finish(capsys, sqlite_workspace, QUICK_ATTACK, quick_end)


def test_store_of_a_later_version_is_left_alone(sqlite_workspace, quick_end, capsys):
    """Another version's store is refused with exit 3 by every command, unchanged; with its own version all goes on."""
    path = sqlite_workspace.root / "jsdelta.db"

    def set_revision(revision: str) -> None:
        with closing(sqlite3.connect(path)) as connection:
            connection.execute(f"UPDATE {VERSION_TABLE} SET version_num = ?", (revision,))
            connection.commit()

    set_revision("9999")
    before = path.read_bytes()
    for arguments in COMMANDS.values():
        code, _, err = run_here(capsys, sqlite_workspace, *arguments)
        assert "update jsdelta" in error_line(code, err, 3), arguments
    assert path.read_bytes() == before
    set_revision(HEAD_REVISION)
    finish(capsys, sqlite_workspace, QUICK_ATTACK, quick_end)


def test_committed_rows_that_can_not_be_read_are_not_passed_over(public_workspace, capsys):
    """A log of committed rows beside a store that may not be written: no answer rather than an old one."""
    path = public_workspace.root / "jsdelta.db"
    log = path.with_name("jsdelta.db-wal")
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("DELETE FROM score")
        connection.execute("DELETE FROM score_segment")
        connection.execute("DELETE FROM image_count")
        connection.commit()
        kept = {file: file.read_bytes() for file in (path, log)}
    for file, content in kept.items():  # what a killed process leaves, copied without the log's index
        file.write_bytes(content)
    path.with_name("jsdelta.db-shm").unlink(missing_ok=True)
    with read_only(public_workspace.root):
        code, out, err = run_here(capsys, public_workspace, "query", "bugs")
        assert "jsdelta.db-wal holds rows that cannot be read from here" in error_line(code, err)
        assert out == ""
    assert log.read_bytes() == kept[log]
