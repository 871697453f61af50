"""SIGKILL in the middle of delete, import, export, upgrade and dataset build, then the same command again.

The end is that of a command that nobody stopped: rows, files, MLflow's runs, and nothing left aside.
"""

import random
import shutil
import sqlite3
from contextlib import closing
from itertools import pairwise
from pathlib import Path

import pytest

from jsdelta_db.config.locations import Workspace
from jsdelta_db.store.schema import HEAD_REVISION, VERSION_TABLE
from tests.cli.calls import call
from tests.exchange.moving import rows_by_uid, workspace_at
from tests.faults.killing import run_and_kill
from tests.reading import ask
from tests.store.old_stores import OLD_STORES
from tests.workspaces import copy_of

pytestmark = pytest.mark.slow

SEED, KILLS = 20261130, 4


def moments(total: int, command: str) -> list[int]:
    """Draw moments of a command: one in each part of its work."""
    drawn = random.Random(f"{SEED} {command}")
    bounds = [1 + number * total // KILLS for number in range(KILLS + 1)]
    return [drawn.randrange(low, max(high, low + 1)) for low, high in pairwise(bounds)]


def files_of(folder: Path) -> dict[str, bytes]:
    """Return every file below a folder but the databases, by path; hidden ones, too."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and ".db" not in path.name and path.name != ".jsdelta.lock"
    }


def mlflow_stages(workspace: Workspace) -> dict[str, str]:
    """Return each MLflow run's stage by id."""
    with closing(sqlite3.connect(workspace.root / "mlflow.db")) as connection:
        return dict(connection.execute("SELECT run_uuid, lifecycle_stage FROM runs"))


def test_delete(tiny, tmp_path, capsys):
    """Killed anywhere in a deletion: rows, files and MLflow's runs go all the same, with the same command."""
    uid = ask(tiny, "SELECT uid FROM model WHERE seed = 1")[0][0]
    command = ("db", "delete", uid, "--cascade", "--yes")
    calm = copy_of(tiny, tmp_path / "calm" / "workspace")
    total = run_and_kill(calm.root, *command)
    for number, moment in enumerate(moments(total, "delete")):
        workspace = copy_of(tiny, tmp_path / str(number) / "workspace")
        run_and_kill(workspace.root, *command, moment=moment)
        code, _, err = call(capsys, workspace, *command)
        assert code == 0 or "has a uid that starts with" in err, err  # killed when all was done
        assert rows_by_uid(workspace) == rows_by_uid(calm)
        assert files_of(workspace.root) == files_of(calm.root)
        assert mlflow_stages(workspace) == mlflow_stages(calm)
        assert call(capsys, workspace, "db", "check")[:2] == (0, "ok\n")
        assert [path.name for path in workspace.root.parent.iterdir()] == ["workspace"]


def test_export(tiny, tmp_path, capsys):
    """Killed anywhere in an export: what was there before is whole until the new one is, and nothing stays aside."""
    calm = copy_of(tiny, tmp_path / "calm" / "workspace")
    assert call(capsys, calm, "db", "export", "-o", str(calm.root.parent / "export"))[0] == 0
    earlier = files_of(calm.root.parent / "export")
    total = run_and_kill(calm.root, "db", "export", "-o", str(calm.root.parent / "export"))
    for number, moment in enumerate(moments(total, "export")):
        place = tmp_path / str(number)
        workspace = copy_of(tiny, place / "workspace")
        shutil.copytree(calm.root.parent / "export", place / "export")
        command = ("db", "export", "-o", str(place / "export"))
        run_and_kill(workspace.root, *command, moment=moment)
        left = [folder for name in ("export", ".export.before") if (folder := place / name).exists()]
        assert files_of(left[0]) == earlier
        code, _, err = call(capsys, workspace, *command)
        assert code == 0, err
        assert files_of(place / "export") == earlier
        assert sorted(path.name for path in place.iterdir()) == ["export", "workspace"]


def test_import(tiny, tmp_path, capsys):
    """Killed anywhere in an import: the same import again brings the rest, all of it, and once."""
    source = tmp_path / "export"
    assert call(capsys, tiny, "db", "export", "-o", str(source))[0] == 0
    calm = workspace_at(tmp_path / "calm" / "workspace")
    total = run_and_kill(calm.root, "db", "import", str(source))
    for number, moment in enumerate(moments(total, "import")):
        workspace = workspace_at(tmp_path / str(number) / "workspace")
        run_and_kill(workspace.root, "db", "import", str(source), moment=moment)
        code, _, err = call(capsys, workspace, "db", "import", str(source))
        assert code == 0, err
        assert rows_by_uid(workspace) == rows_by_uid(calm)
        assert files_of(workspace.root) == files_of(calm.root)
        assert call(capsys, workspace, "db", "check")[:2] == (0, "ok\n")


def test_upgrade(tmp_path, capsys):
    """Killed anywhere in an upgrade: the store is of the old revision or the new one, and the backup is whole."""
    old = OLD_STORES[0]

    def place(name: str) -> Workspace:
        workspace = workspace_at(tmp_path / name / "workspace")
        workspace.root.mkdir(parents=True)
        shutil.copy(old.file, workspace.root / "jsdelta.db")
        return workspace

    calm = place("calm")
    total = run_and_kill(calm.root, "db", "upgrade")
    tables = [name for (name,) in ask(calm, "SELECT name FROM sqlite_master WHERE type = 'table'")]
    for number, moment in enumerate(moments(total, "upgrade")):
        workspace = place(str(number))
        run_and_kill(workspace.root, "db", "upgrade", moment=moment)
        code, _, err = call(capsys, workspace, "db", "upgrade")
        assert code == 0, err
        for table in tables:
            assert ask(workspace, f"SELECT * FROM {table}") == ask(calm, f"SELECT * FROM {table}"), table
        assert [path.name for path in workspace.root.glob("*part*")] == []
        for backup in workspace.root.glob(f"*.before-{HEAD_REVISION}"):
            with closing(sqlite3.connect(backup)) as connection:
                assert (
                    connection.execute(f"SELECT version_num FROM {VERSION_TABLE}").fetchone()[0]
                    == old.revision
                )


def test_dataset_build(tiny, tmp_path, capsys):
    """Killed anywhere in a construction: the same command ends with the same images, and no part stays."""
    command = (
        "dataset",
        "build",
        "det",
        "--from",
        "digits",
        "--name",
        "made",
        "--images",
        "40",
        "--steps",
        "3",
    )
    calm = copy_of(tiny, tmp_path / "calm" / "workspace")
    total = run_and_kill(calm.root, *command)
    sha256 = "SELECT sha256, fingerprint, status FROM dataset WHERE name = 'made'"
    for number, moment in enumerate(moments(total, "dataset build")):
        workspace = copy_of(tiny, tmp_path / str(number) / "workspace")
        run_and_kill(workspace.root, *command, moment=moment)
        code, _, err = call(capsys, workspace, *command)
        assert code == 0, err
        assert ask(workspace, sha256) == ask(calm, sha256)
        assert sorted(map(len, files_of(workspace.root).values())) == sorted(
            map(len, files_of(calm.root).values())
        )
        assert [path.name for path in workspace.root.rglob("*part*")] == []
