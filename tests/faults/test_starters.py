"""The same attack, started by several real processes at once."""

import sqlite3
from collections import Counter
from contextlib import closing

import mlflow
import pytest
from sqlalchemy import text

from jsdelta_db.config.locations import Workspace
from jsdelta_db.store.creating import open_for_writing
from tests.faults.attacks import ATTACK, CHUNKS, assert_same_end, start

# Every claim and every row that anybody tries to insert, noted by the database itself.
NOTES = (
    "CREATE TABLE noted (what text, number integer)",
    "CREATE TRIGGER claims AFTER UPDATE OF status ON attack_chunk WHEN NEW.status = 'running' BEGIN "
    "INSERT INTO noted VALUES ('claim', NEW.attack_id * 1000 + NEW.position); END",
    "CREATE TRIGGER samples BEFORE INSERT ON sample BEGIN "
    "INSERT INTO noted VALUES ('sample', NEW.attack_id); END",
)


def start_together(workspace: Workspace, processes: int) -> None:
    """Run the same attack in several processes; all of them end well and print the same table."""
    started = [start(workspace, *ATTACK) for _ in range(processes)]
    ended = [(process.communicate(), process.returncode) for process in started]
    assert [code for _, code in ended] == [0] * processes, ended
    assert len({out for (out, _), _ in ended}) == 1
    # Eight may wait for each other, and say so; what is not logged is another line.
    said = [line for (_, err), _ in ended for line in err.splitlines() if not line.startswith("waiting for ")]
    assert not [line for line in said if "jsdelta: " in line or "Traceback" in line or "MLflow" in line]


def assert_one_run_each(workspace: Workspace) -> None:
    """Every evaluation has one MLflow run, finished, which its row names; each of its metrics was logged once."""
    store = open_for_writing(workspace.db_url)
    with store.reading() as connection:
        rows = connection.execute(text("SELECT uid, mlflow_run_id FROM evaluation")).all()
    store.close()
    named = {row.uid: row.mlflow_run_id for row in rows}
    client = mlflow.MlflowClient(f"sqlite:///{workspace.root / 'mlflow.db'}")
    runs = client.search_runs([each.experiment_id for each in client.search_experiments()])
    found = [(run.data.tags.get("jsdelta.uid"), run) for run in runs]
    logged = {uid: run.info.run_id for uid, run in found if uid in named}
    assert logged == named
    assert len([uid for uid, _ in found if uid in named]) == len(named)
    assert {run.info.status for uid, run in found if uid in named} == {"FINISHED"}
    parents = {run.data.tags["mlflow.parentRunId"] for uid, run in found if uid in named}
    calls = [run for _, run in found if run.info.run_id in parents]
    assert {(run.info.status, run.info.lifecycle_stage) for run in calls} == {("FINISHED", "active")}
    assert len(calls) == len(parents)
    with closing(sqlite3.connect(workspace.mlflow_file)) as store:
        times = store.execute("SELECT DISTINCT count(*) FROM metrics GROUP BY run_uuid, key, step").fetchall()
    assert times == [(1,)]


def test_two_starters_share_one_row(sqlite_workspace, calm_end, capsys):
    """Two commands at once: one attack at each ε, each chunk claimed and each row written once, and the end of one process."""
    store = open_for_writing(sqlite_workspace.db_url)
    with store.transaction() as session:
        for statement in NOTES:
            session.execute(text(statement))
    start_together(sqlite_workspace, 2)
    with store.transaction() as session:
        noted = Counter(tuple(row) for row in session.execute(text("SELECT what, number FROM noted")))
        assert session.execute(text("SELECT count(*) FROM attack WHERE images = 12")).scalar() == 2
        for statement in ("DROP TRIGGER claims", "DROP TRIGGER samples", "DROP TABLE noted"):
            session.execute(text(statement))
    store.close()
    claims = [times for (what, _), times in noted.items() if what == "claim"]
    assert claims == [1] * CHUNKS
    assert sum(times for (what, _), times in noted.items() if what == "sample") == sum(
        row["n_attempts"] for row in calm_end["attack_chunk"] if row["attack_id"] >= 2
    )
    assert_same_end(capsys, sqlite_workspace, calm_end)
    assert_one_run_each(sqlite_workspace)


@pytest.mark.slow
def test_four_processes_on_a_sqlite_file(sqlite_workspace, calm_end, capsys):
    """Four real attacks at once on one SQLite file: none fails, and the end is that of one process."""
    start_together(sqlite_workspace, 4)
    assert_same_end(capsys, sqlite_workspace, calm_end)
    assert_one_run_each(sqlite_workspace)


@pytest.mark.slow
def test_eight_processes_on_postgresql(postgres_workspace, calm_end, capsys):
    """Eight real attacks at once on PostgreSQL: none fails, and the end is that of one process."""
    start_together(postgres_workspace, 8)
    assert_same_end(capsys, postgres_workspace, calm_end)
