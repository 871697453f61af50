"""Looking after a store: what it holds, and whether it holds together."""

import sqlite3
from contextlib import closing

import pytest
from sqlalchemy import text

from jsdelta_db.store.maintenance import count_rows, count_states, find_problems, size_in_bytes
from jsdelta_db.store.schema import Base
from jsdelta_db.store.session import reading_store
from tests.integration.test_schema_rules import ENGINES, add_dataset, new_store


def _problems(workspace) -> list[str]:
    with reading_store(workspace.db_url) as connection:
        return list(find_problems(connection, workspace.root))


def _break(workspace, statement: str) -> None:
    """Change a store behind jsdelta's back; SQLite's shell does not enforce foreign keys either."""
    with closing(sqlite3.connect(workspace.root / "jsdelta.db")) as connection:
        connection.execute(statement)
        connection.commit()


def _ask(workspace, statement: str) -> list[tuple]:
    with reading_store(workspace.db_url) as connection:
        return [tuple(row) for row in connection.execute(text(statement))]


def test_finished_store_holds_together(tiny):
    """What the pipeline made has no problems."""
    assert _problems(tiny) == []


@pytest.mark.parametrize(
    ("table", "parent", "missing"),
    [("score", "evaluation_id", "scores"), ("sample", "attack_id", "samples")],
)
def test_deleted_row_is_found(table, parent, missing, tiny_copy):
    """A finished evaluation with a row too few is named with its counts."""
    ((uid, planned),) = _ask(
        tiny_copy,
        "SELECT evaluation.uid, n_attempts FROM evaluation JOIN attack ON attack.id = attack_id "
        "ORDER BY evaluation.id LIMIT 1",
    )
    _break(
        tiny_copy,
        f"DELETE FROM {table} WHERE {parent} = 1 AND sample_index = "
        f"(SELECT min(sample_index) FROM {table} WHERE {parent} = 1)",
    )
    (problem,) = _problems(tiny_copy)
    assert f"evaluation {uid}: {planned} attempts planned" in problem
    assert f"{planned - 1} {missing}" in problem
    assert f"{planned - 1} of them belong together" in problem


def test_score_of_another_attempt_is_found(tiny_copy):
    """Equal counts are not enough: each score must be a sample's own."""
    _break(
        tiny_copy,
        "UPDATE score SET sample_index = 999999 WHERE evaluation_id = 1 AND sample_index = "
        "(SELECT min(sample_index) FROM score WHERE evaluation_id = 1)",
    )
    (problem,) = _problems(tiny_copy)
    assert problem.startswith("evaluation ")


@pytest.mark.parametrize(
    "files",
    [
        "SELECT checkpoint_uri FROM model",
        "SELECT uri FROM model_logits",
        "SELECT uri FROM attack_chunk",
        "SELECT uri FROM evaluation_chunk",
    ],
    ids=["checkpoint", "clean logits", "samples", "scores"],
)
@pytest.mark.parametrize(
    ("damage", "found"),
    [("remove", "missing"), ("cut", "altered or cut short"), ("alter", "altered or cut short")],
)
def test_damaged_file_is_found(files, damage, found, tiny_copy):
    """Every file that a row points to is there and has the hash it was stored with."""
    uri = _ask(tiny_copy, files)[0][0]
    path = tiny_copy.root / uri
    content = path.read_bytes()
    if damage == "remove":
        path.unlink()
    elif damage == "cut":
        path.write_bytes(content[:-1])
    else:
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert _problems(tiny_copy) == [f"file {uri}: {found}"]


def test_broken_foreign_key_is_found(tiny_copy):
    """A row that points to one that is not there names its table."""
    _break(tiny_copy, "UPDATE model_metric SET model_id = 99 WHERE model_id = 1 AND name = 'clean_accuracy'")
    (problem,) = _problems(tiny_copy)
    assert "a row of model_metric points to one that is not there" in problem


def test_moved_workspace_still_holds_together(tiny_copy, tmp_path):
    """Rows name files relative to the workspace, so the folder can move."""
    moved = tmp_path / "elsewhere"
    tiny_copy.root.rename(moved)
    with reading_store(f"sqlite:///{moved / 'jsdelta.db'}") as connection:
        assert list(find_problems(connection, moved)) == []


def test_states_of_a_finished_store(tiny):
    """Everything is finished: three members, one ensemble, two attacks."""
    with reading_store(tiny.db_url) as connection:
        states = {(row["kind"], row["status"]): row["rows"] for row in count_states(connection)}
        tables = {row["table"]: row["rows"] for row in count_rows(connection)}
        size = size_in_bytes(connection)
    assert {status for _, status in states} == {"finished"}
    assert (states["model", "finished"], states["ensemble", "finished"]) == (3, 1)
    assert states["evaluation", "finished"] == tables["evaluation"] == tables["attack"] == 2
    assert tables["sample"] == tables["score"] > 0
    assert size == (tiny.root / "jsdelta.db").stat().st_size


@pytest.fixture(params=ENGINES)
def store(request, tmp_path):
    """A store on each engine with two data sets in it."""
    with new_store(request, tmp_path) as opened:
        with opened.transaction() as session:
            for _ in range(2):
                add_dataset(session)
        yield opened


def test_stats_and_check_run_on_both_engines(store, tmp_path):
    """Rows by table, size and problems, whatever the engine."""
    with store.reading() as connection:
        rows = {row["table"]: row["rows"] for row in count_rows(connection)}
        assert rows == {name: 2 if name == "dataset" else 0 for name in Base.metadata.tables}
        assert size_in_bytes(connection) > 4096
        assert count_states(connection) == []
        assert list(find_problems(connection, tmp_path)) == []
