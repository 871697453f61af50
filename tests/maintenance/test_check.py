"""Looking after a store: what it holds, and whether it holds together."""

import sqlite3
from contextlib import closing

import pytest
from sqlalchemy import text

from jsdelta_db.maintenance import stats
from jsdelta_db.maintenance.check import find_problems
from jsdelta_db.maintenance.stats import count_rows, count_states, size_in_bytes, table_sizes
from jsdelta_db.store.schema import FINISHED, AttackChunk, Base, EvaluationChunk
from jsdelta_db.store.session import reading_store
from tests.stores import (
    ENGINES,
    add_attack,
    add_chunks,
    add_dataset,
    add_evaluation,
    add_model,
    add_samples,
    add_scores,
    new_store,
)


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
    problems = _problems(tiny_copy)
    assert all(line.startswith("evaluation ") for line in problems)
    assert "belong together" in problems[0]


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
        assert count_states(connection) == [{"kind": "dataset", "status": "finished", "rows": 2}]
        sizes = table_sizes(connection)
        assert set(sizes) == set(rows)
        assert 0 < sizes["dataset"] <= sum(sizes.values()) <= size_in_bytes(connection)
        assert list(find_problems(connection, tmp_path)) == []


@pytest.mark.parametrize(
    ("statement", "fragments"),
    [
        (
            "UPDATE evaluation_member SET model_id = 1 WHERE evaluation_id = 1 AND position = 0",
            ["has the attacked weights", "a sha256 beside evaluator"],
        ),
        (
            "UPDATE evaluation_member SET model_sha256 = 'made up' WHERE evaluation_id = 1 AND position = 0",
            ["a sha256 beside evaluator"],
        ),
        (
            "UPDATE evaluation_member SET attacked_sha256 = 'x' WHERE evaluation_id = 1 AND position = 0",
            ["a sha256 beside evaluator"],
        ),
        (
            "UPDATE evaluation SET attacked_sha256 = 'made up' WHERE id = 1",
            ["its attacked_sha256 is not that of its attack"],
        ),
        (
            "UPDATE attack SET attacked_sha256 = 'made up' WHERE id = 1",
            ["attacked_sha256 is not that of its model's checkpoint", "is not that of its attack"],
        ),
    ],
    ids=["judges itself", "evaluator's copy", "attacked copy", "evaluation's copy", "attack's copy"],
)
def test_weights_that_disagree_are_found(statement, fragments, tiny_copy):
    """Whoever switched foreign keys off cannot make the attacked weights judge unseen."""
    _break(tiny_copy, statement)
    problems = [line for line in _problems(tiny_copy) if not line.startswith("database: ")]
    assert len(problems) == len(fragments)
    for line, fragment in zip(problems, fragments, strict=True):
        assert fragment in line


def test_twin_of_the_attacked_weights_is_found(tiny_copy):
    """Another row of the same weights is the attacked model, too."""
    _break(
        tiny_copy,
        "UPDATE model SET checkpoint_sha256 = (SELECT checkpoint_sha256 FROM model WHERE id = 1) WHERE id = 2",
    )
    assert sum("has the attacked weights" in line for line in _problems(tiny_copy)) == 2  # both evaluations


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM {table} WHERE {parent} = 3 AND position = 1",
        "DELETE FROM {table} WHERE {parent} = 3 AND position = 2",
        "UPDATE {table} SET position = 7 WHERE {parent} = 3 AND position = 2",
        "UPDATE {table} SET n_attempts = n_attempts + 1 WHERE {parent} = 3 AND position = 0",
    ],
    ids=["one missing", "the last missing", "at another place", "another count"],
)
@pytest.mark.parametrize("kind", ["attack", "evaluation"])
def test_chunks_that_are_not_the_plans_are_found(kind, statement, four_copy):
    """An attack's chunks, and those of its evaluation, hold its attempts without a gap."""
    _break(four_copy, statement.format(table=f"{kind}_chunk", parent=f"{kind}_id"))
    (problem,) = _problems(four_copy)
    assert problem.startswith(f"{kind} ")
    assert "attempts planned in chunks of" in problem


@pytest.fixture
def begun(store):
    """An attack of three chunks of two: the first attacked and judged, the second attacked only."""
    with store.transaction() as session:
        models = [add_model(session, add_dataset(session), seed) for seed in (0, 1)]
        attack = add_attack(session, models[0])
        evaluation = add_evaluation(session, attack, models[1:], status="pending", finished_at=None)
        add_chunks(session, attack, evaluation, 3)
        rows = [(index, 0, 1, 1, 0.1) for index in range(4)]
        add_samples(session, attack, rows)
        add_scores(session, evaluation, rows[:2])
        for table, parent, positions in ((AttackChunk, attack, (0, 1)), (EvaluationChunk, evaluation, (0,))):
            for position in positions:
                session.get_one(table, (parent.id, position)).status = FINISHED
    return store


def _rows_only(store, tmp_path) -> list[str]:
    """Return what is found but for the files that rows made by hand do not have."""
    with store.reading() as connection:
        return [line for line in find_problems(connection, tmp_path) if not line.startswith("file ")]


def test_unfinished_work_is_no_problem(begun, tmp_path):
    """Rows of finished chunks only are what a stopped attack leaves, on both engines."""
    assert _rows_only(begun, tmp_path) == []


@pytest.mark.parametrize(
    ("statement", "fragment"),
    [
        ("DELETE FROM sample WHERE sample_index = 3", "4 attempts in finished chunks, 3 samples"),
        ("DELETE FROM score WHERE sample_index = 1", "2 attempts in finished chunks, 1 scores, 1 of them"),
        ("UPDATE score SET sample_index = 9 WHERE sample_index = 1", "2 scores, 1 of them with a sample"),
    ],
)
def test_unfinished_work_is_held_against_its_chunks(statement, fragment, begun, tmp_path):
    """Of an attack that is not finished, the rows of the finished chunks are there."""
    with begun.transaction() as session:
        session.execute(text(statement))
    (problem,) = _rows_only(begun, tmp_path)
    assert fragment in problem


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        (("finished", "finished", "finished"), "finished"),
        (("finished", "pending", "finished"), "pending"),
        (("finished", "running", "failed"), "running"),
        (("finished", "failed", "pending"), "failed"),
    ],
)
def test_state_of_an_attack_comes_from_its_chunks(states, expected, begun):
    """Running before failed before pending; finished only with the last chunk."""
    with begun.transaction() as session:
        for position, status in enumerate(states):
            session.get_one(AttackChunk, (1, position)).status = status
    with begun.reading() as connection:
        rows = [row for row in count_states(connection) if row["kind"] == "attack"]
    assert rows == [{"kind": "attack", "status": expected, "rows": 1}]


def test_sizes_where_sqlite_can_not_tell(tiny, monkeypatch):
    """A build without dbstat gives no sizes of tables, and no error."""
    monkeypatch.setattr(stats, "SQLITE_SIZES", stats.SQLITE_SIZES.replace("FROM dbstat", "FROM nodbstat"))
    with reading_store(tiny.db_url) as connection:
        assert table_sizes(connection) == {}
