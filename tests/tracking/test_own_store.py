"""MLflow's own file: made whole or not at all, and made again where it was left unfinished."""

import sqlite3
from contextlib import closing

import pytest
from mlflow import MlflowClient

from jsdelta_db.tracking import Connection, Tracker, own_store
from jsdelta_db.tracking.own_store import prepare_file


def _change(file, *statements: str) -> None:
    with closing(sqlite3.connect(file)) as store, store:
        for statement in statements:
            store.execute(statement)


@pytest.fixture
def unfinished(workspace):
    """A workspace in which the making of MLflow's tables was interrupted, by an earlier version."""
    _change(workspace.mlflow_file, "DROP TABLE webhooks", "UPDATE alembic_version SET version_num = '0584bdc529eb'", "PRAGMA user_version = 0")  # fmt: skip
    return workspace


@pytest.mark.parametrize("stop", [KeyboardInterrupt, OSError])
def test_stopped_making_leaves_nothing(stop, tmp_path, monkeypatch):
    """Interrupted before the last table is there, no file is left, and the next command makes it."""

    def interrupted(file) -> None:
        file.write_bytes(b"half of it")
        raise stop

    with monkeypatch.context() as patch:
        patch.setattr(own_store, "_open", interrupted)
        with pytest.raises(stop):
            prepare_file(tmp_path / "mlflow.db")
    assert list(tmp_path.iterdir()) == []


def test_unfinished_tables_are_made_again(unfinished):
    """A file that MLflow cannot go on with and that holds no runs is made again; that is said, and runs are logged."""
    said = []
    tracker = Tracker(Connection(unfinished, said.append))
    run = tracker.start("train", uid="0123456789abcdef", params={})
    assert said == [f"{unfinished.mlflow_file} was unfinished and held no runs; its tables were made again"]
    assert run.logged_id is not None
    assert Tracker(Connection(unfinished, pytest.fail)).count_runs() == 1


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO experiments (name, experiment_id) VALUES ('mine', 7)",
        "INSERT INTO registered_models (name) VALUES ('mine')",
    ],
)
def test_what_somebody_keeps_in_it_is_never_made_again(statement, unfinished):
    """An unfinished file with an experiment or a model in it stays as it is."""
    _change(unfinished.mlflow_file, statement)
    before = unfinished.mlflow_file.read_bytes()
    assert prepare_file(unfinished.mlflow_file) is False
    assert unfinished.mlflow_file.read_bytes() == before


def test_an_empty_store_that_mlflow_can_open_stays(workspace):
    """Tables that MLflow made itself, whole and still empty, are not replaced under a server that shows them."""
    _change(workspace.mlflow_file, "PRAGMA user_version = 0")
    before = workspace.mlflow_file.stat().st_ino
    assert prepare_file(workspace.mlflow_file) is False
    assert workspace.mlflow_file.stat().st_ino == before
    assert len(MlflowClient(f"sqlite:///{workspace.mlflow_file}").search_experiments()) == 1
