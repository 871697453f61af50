"""Workspaces whose folder has any name that the system allows, through MLflow and back."""

import os
import sqlite3
from contextlib import closing

import pytest

from jsdelta_db.config.locations import Workspace, resolve_workspace
from jsdelta_db.tracking import Connection, Tracker

NAMES = ["run%20one", "100%", "a?b#c;d&e=f", "ünïcode ☃", b"\xff\xfe", "two\nlines"]


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_runs_are_logged_in_the_folder_as_it_is_named(name, tmp_path, mlflow_template):
    """MLflow's store and the run's files lie in the folder as given, and no other folder is made."""
    root = tmp_path / os.fsdecode(name)
    root.mkdir()
    (root / "mlflow.db").write_bytes(mlflow_template.read_bytes())
    tracker = Tracker(Connection(resolve_workspace(root), pytest.fail))
    run = tracker.start("train", uid="0123456789abcdef", params={"folder": root})
    (root / "files").mkdir()
    (root / "files" / "some.txt").write_text("content")
    with run.closing():
        run.copy_files(root / "files")
    assert run.folder == root / "mlruns" / run.run_id / "artifacts"
    assert (run.folder / "some.txt").read_text() == "content"
    assert tracker.count_runs() == 1
    with closing(sqlite3.connect(root / "mlflow.db")) as store:
        assert store.execute("SELECT status FROM runs").fetchall() == [("FINISHED",)]
    assert [each.name for each in tmp_path.iterdir() if each.name != "mlflow"] == [root.name]


def test_mlflows_tables_are_made_in_such_a_folder(tmp_path):
    """The first run makes MLflow's file there, too."""
    root = tmp_path / "100%41?"
    workspace = Workspace(root, "sqlite://", None, root / "data")
    root.mkdir()
    assert Tracker(Connection(workspace, pytest.fail)).count_runs() == 0
    assert {each.name for each in root.iterdir()} == {"mlflow.db", ".jsdelta.lock"}
    assert [each.name for each in tmp_path.iterdir()] == [root.name]
