"""The folder that an export goes to: replaced only if it is one of ours, and as closed as what it holds."""

import shutil
import stat
from pathlib import Path

import pytest

from jsdelta_db.config.locations import Workspace
from jsdelta_db.errors import UsageError
from tests.exchange.moving import write


@pytest.fixture(scope="module")
def exported(tiny, tmp_path_factory):
    """An export of the tiny store; tests only read it."""
    folder = tmp_path_factory.mktemp("exported") / "export"
    write(tiny, folder)
    return folder


@pytest.fixture
def export(exported, tmp_path):
    """A copy of it that a test may change."""
    return shutil.copytree(exported, tmp_path / "export")


@pytest.mark.parametrize("place", ["tables/mine.parquet", "files/mine.txt", "files/mlruns/mine.txt"])
def test_a_file_of_somebody_else_deep_in_an_export_is_not_lost(place, tiny, export):
    """An export is replaced only as long as it holds what was exported, and nothing more, at any depth."""
    (export / place).write_text("mine")
    with pytest.raises(UsageError, match=r"mine\.parquet|files in files"):
        write(tiny, export)
    assert (export / place).read_text() == "mine"


@pytest.mark.parametrize("place", [".", "..", "workspace", "workspace/.."])
def test_the_working_folder_and_the_workspace_are_never_replaced(place, tiny, tmp_path, monkeypatch):
    """An empty folder in which one stands, or which is the workspace of a server's store, keeps its place."""
    work, root = tmp_path / "work", tmp_path / "workspace"
    work.mkdir()
    root.mkdir()
    monkeypatch.chdir(work)
    workspace = Workspace(root, tiny.db_url, None, root / "data")
    folder = Path(place) if place in {".", ".."} else tmp_path / place
    before = [each.stat().st_ino for each in (work, root)]
    with pytest.raises(UsageError, match="is or holds the work"):
        write(workspace, folder, with_files=False)
    assert [each.stat().st_ino for each in (work, root)] == before


@pytest.mark.parametrize(
    ("root", "store", "expected"), [(0o755, 0o644, 0o755), (0o700, 0o644, 0o700), (0o755, 0o640, 0o750)]
)
def test_an_export_is_open_to_the_readers_of_its_store(root, store, expected, tiny_copy, tmp_path):
    """Whoever may not read the workspace or its database can not enter the export."""
    tiny_copy.root.chmod(root)
    (tiny_copy.root / "jsdelta.db").chmod(store)
    write(tiny_copy, tmp_path / "export", with_files=False)
    assert stat.S_IMODE((tmp_path / "export").stat().st_mode) == expected


def test_an_export_that_is_replaced_keeps_its_rights(tiny, export):
    """A folder of 0700 stays closed, and so does a table of 0600."""
    table = export / "tables" / "model.parquet"
    export.chmod(0o700)
    table.chmod(0o600)
    write(tiny, export)
    assert [stat.S_IMODE(path.stat().st_mode) for path in (export, table)] == [0o700, 0o600]
