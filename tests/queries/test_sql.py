"""The user's own SELECT, on both engines: it reads, and nothing that it says does more."""

import time

import pytest
from sqlalchemy import text

from jsdelta_db.errors import StoreError, StoreNotReadyError, UsageError
from jsdelta_db.queries.sql import query_sql
from jsdelta_db.store import reading as store_reading
from tests.stores import (
    ENGINES,
    add_attack,
    add_dataset,
    add_evaluation,
    add_model,
    add_samples,
    add_scores,
    new_store,
)

ROWS = [(1, 0, 1, 1, 0.25), (2, 0, 2, 0, None)]
ENDLESS = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT count(*) FROM c"


@pytest.fixture(scope="module", params=ENGINES)
def store(request, tmp_path_factory):
    """A store on each engine with one judged attack."""
    with new_store(request, tmp_path_factory.mktemp("store")) as opened:
        with opened.transaction() as session:
            dataset = add_dataset(session)
            models = [add_model(session, dataset, seed) for seed in (0, 1)]
            attack = add_attack(session, models[0])
            evaluation = add_evaluation(session, attack, models[1:])
            add_samples(session, attack, ROWS)
            add_scores(session, evaluation, ROWS)
        yield opened


@pytest.fixture
def ask(store):
    """Ask the store in SQL."""
    url = store.engine.url.render_as_string(hide_password=False)
    if store.is_sqlite:
        with store.reading() as connection:
            url = f"sqlite:///{connection.execute(text('PRAGMA database_list')).one()[2]}"
    return lambda statement, timeout=30.0: query_sql(url, statement, timeout)


@pytest.mark.parametrize("end", ["", ";", " ; -- that is all", "\n/* ; */"])
@pytest.mark.parametrize("start", ["", "-- the mean\n", " /* of; all */ "])
def test_a_select_is_answered(start, end, ask):
    """The view's rows come with the names of their columns; comments and a last semicolon do no harm."""
    found = ask(
        f"{start}SELECT eps, source_label, target_label, js_delta FROM sample_scores ORDER BY sample_index{end}"
    )
    assert found.columns == ("eps", "source_label", "target_label", "js_delta")
    assert found.rows == [(3 / 255, "zero", "one", 0.25), (3 / 255, "zero", "two", None)]


@pytest.mark.parametrize(
    "statement", ["WITH a AS (SELECT 1 AS x) SELECT x FROM a", "VALUES (1)", "select\t1"]
)
def test_what_reads_is_allowed(statement, ask):
    """Not only SELECT itself, and in any case."""
    assert ask(statement).rows == [(1,)]


def test_values_are_plain(ask, store):
    """BLOBs are hex, decimals are numbers, what is not finite is a word, times and JSON are text."""
    (row,) = ask("SELECT member_js FROM score WHERE js_delta IS NOT NULL").rows
    assert row == ("cdcccc3d",)
    (row,) = ask("SELECT classes FROM dataset").rows
    assert row[0].replace(" ", "") == '["zero","one","two","three"]'
    if store.is_sqlite:
        assert ask("SELECT 9e999, -9e999, CAST(x'ff41' AS TEXT)").rows == [("inf", "-inf", "\ufffdA")]
    else:
        found = ask(
            "SELECT 1.5::numeric, 2::numeric, 'NaN'::float8, DATE '2026-01-02', ARRAY[1, 2], true, '%'"
        )
        assert found.rows == [(1.5, 2, "nan", "2026-01-02", "[1, 2]", True, "%")]


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM score",
        "UPDATE sample SET success = 1",
        "INSERT INTO control_result (evaluation_id, name) VALUES (1, 'x')",
        "DROP TABLE score",
        "CREATE TEMP TABLE mine (x INTEGER)",
        "COMMIT",
        "SELECT 1; DELETE FROM score",
        "SELECT 1; COMMIT; DELETE FROM score",
        "SELECT 1; SELECT 2",
        "WITH x AS (SELECT 1) DELETE FROM score",
        "WITH x AS (DELETE FROM score RETURNING 1) SELECT * FROM x",
        "EXPLAIN ANALYZE DELETE FROM score",
        "/* SELECT */ DELETE FROM score",
        "-- SELECT\nDELETE FROM score",
        "SELECT nothing FROM sample_scores",
        "SELECT FROM WHERE",
        "SELECT ?, $1",
        "SELECT * FROM no_such_table",
        "",
        "   -- nothing",
        # SQLite's own ways out
        "ATTACH 'other.db' AS other",
        "VACUUM INTO 'copy.db'",
        "PRAGMA journal_mode = DELETE",
        "PRAGMA query_only = OFF",
        "PRAGMA writable_schema = ON",
        "SELECT load_extension('evil')",
        "REINDEX",
        # PostgreSQL's
        "SET TRANSACTION READ WRITE",
        "SELECT set_config('transaction_read_only', 'off', false)",
        "SELECT * INTO copy FROM score",
        "COPY score TO STDOUT",
        "COPY (SELECT 1) TO PROGRAM 'cat'",
        "DO $$ BEGIN DELETE FROM score; END $$",
        "SELECT setval('dataset_id_seq', 99)",
        "SELECT 1 FROM dataset FOR UPDATE",
    ],
)
def test_what_does_not_read_is_refused_in_one_line(statement, ask, store, tmp_path, monkeypatch):
    """Whatever writes, opens, loads or is several statements: refused, with nothing changed or made."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=r"the statement was refused: .*jsdelta query sql --help") as error:
        ask(statement)
    assert len(str(error.value).splitlines()) == 1
    assert list(tmp_path.iterdir()) == []
    with store.reading() as connection:
        assert connection.execute(text("SELECT count(*), sum(success) FROM score, sample")).one() == (4, 2)


def test_statement_that_takes_too_long_is_stopped(ask):
    """After --timeout seconds the database stops, and the line says so."""
    begun = time.monotonic()
    with pytest.raises(StoreError, match=r"stopped after 0.2 s; .*--timeout"):
        ask(ENDLESS, 0.2)
    assert time.monotonic() - begun < 20


def test_sqlite_is_left_as_it_was(tiny):
    """Beside the store no file is left, and it is still in WAL mode for who writes next."""
    before = {path.name for path in tiny.root.iterdir()}
    assert query_sql(tiny.db_url, "SELECT count(*) FROM model", 5).rows == [(3,)]
    assert {path.name for path in tiny.root.iterdir()} == before


def test_columns_can_be_looked_up_on_sqlite(tiny):
    """What describes a table is allowed."""
    found = query_sql(tiny.db_url, "PRAGMA table_info(sample)", 5)
    assert [row[1] for row in found.rows][:3] == ["attack_id", "sample_index", "requested_target"]


def test_slower_way_to_the_same_file(tiny, monkeypatch):
    """Where the fast way does not open a store, the slow one leads to the same answer."""
    monkeypatch.setattr(store_reading, "_open_quickly", lambda url: None)
    assert query_sql(tiny.db_url, "SELECT count(*) FROM model", 5).rows == [(3,)]


def test_store_without_room_for_sqlites_own_files_can_be_asked(tiny_copy):
    """A store on read-only media has no place for WAL's files."""
    for name in ("jsdelta.db-wal", "jsdelta.db-shm"):
        (tiny_copy.root / name).mkdir()
    assert query_sql(tiny_copy.db_url, "SELECT count(*) FROM model", 5).rows == [(3,)]


def test_damaged_store_is_said_to_be_damaged(tiny_copy):
    """A file that was cut off is not the statement's fault."""
    path = tiny_copy.root / "jsdelta.db"
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(StoreError, match="is damaged"):
        query_sql(tiny_copy.db_url, "SELECT count(*), sum(js), max(member_js) FROM score, sample", 5)


def test_no_store_is_no_answer(tmp_path):
    """Asking makes nothing."""
    with pytest.raises(StoreNotReadyError, match="no store at"):
        query_sql(f"sqlite:///{tmp_path / 'jsdelta.db'}", "SELECT 1", 5)
    assert list(tmp_path.iterdir()) == []
