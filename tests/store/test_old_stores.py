"""Stores of past releases: upgraded, queried, and taken back."""

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from alembic import command
from alembic.script import ScriptDirectory

from jsdelta_db.maintenance.check import find_problems
from jsdelta_db.queries.bugs import query_bugs
from jsdelta_db.store import migrate
from jsdelta_db.store.addresses import parse_url
from jsdelta_db.store.migrate import alembic_config, upgrade
from jsdelta_db.store.schema import HEAD_REVISION, VERSION_TABLE
from jsdelta_db.store.session import make_engine, reading_store
from tests.store.old_stores import NEW_TABLES, OLD_STORES, OldStore, run

SEGMENTS_SINCE = "0004"  # whose segments are today's: an upgrade keeps them


@pytest.fixture(params=OLD_STORES, ids=lambda old: old.revision)
def old(request) -> OldStore:
    """Each past revision."""
    return request.param


@pytest.fixture
def old_store(tmp_path, old) -> Path:
    """A copy of a store that it wrote: two members, one attack on 20 images, one evaluation."""
    path = tmp_path / "jsdelta.db"
    shutil.copy(old.file, path)
    return path


def _tables(path) -> dict[str, list[dict[str, object]]]:
    """Return every row of every table, as dictionaries."""
    with closing(sqlite3.connect(path)) as connection:
        connection.row_factory = sqlite3.Row
        names = [
            name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        ]
        return {name: [dict(row) for row in connection.execute(f"SELECT * FROM {name}")] for name in names}


def _view(path) -> list[dict[str, object]]:
    with closing(sqlite3.connect(path)) as connection:
        connection.row_factory = sqlite3.Row
        statement = "SELECT * FROM sample_scores ORDER BY sample_index, target_label"
        return [dict(row) for row in connection.execute(statement)]


def test_every_past_revision_has_a_store():
    """Each migration but the newest is one that a committed store comes from."""
    revisions = {each.revision for each in ScriptDirectory.from_config(alembic_config()).walk_revisions()}
    assert revisions - {HEAD_REVISION} == {old.revision for old in OLD_STORES}


def test_an_old_store_keeps_every_row(old_store, old):
    """Each table has its rows as they were; new columns say what was true of them."""
    before = _tables(old_store)
    assert before[VERSION_TABLE] == [{"version_num": old.revision}]
    assert tuple(len(before[name]) for name in ("model", "attack", "sample", "score")) == old.rows
    assert upgrade(f"sqlite:///{old_store}") == (old.revision, Path(f"{old_store}.before-{HEAD_REVISION}"))
    after = _tables(old_store)
    assert after.pop(VERSION_TABLE) == [{"version_num": HEAD_REVISION}]
    assert {name: rows for name, rows in after.items() if name not in NEW_TABLES} == {
        name: [{**row, **old.columns.get(name, {})} for row in rows]
        for name, rows in before.items()
        if name not in {VERSION_TABLE, *NEW_TABLES}
    }
    assert sum(row["n"] for row in after["score_segment"]) == old.rows[-1]


def test_an_old_stores_view_says_more_than_before(old_store, old):
    """The view's old columns say what they said, in their order; the new ones come behind them."""
    before = _view(old_store)
    upgrade(f"sqlite:///{old_store}")
    after = _view(old_store)
    assert len(after) == old.rows[-1]
    assert list(after[0]) == [*before[0], *old.in_view]
    assert [{name: row[name] for name in before[0]} for row in after] == before
    assert {(row["library"], row["objective"], row["temperature"]) for row in after} == {
        ("jsdelta", "target", "1")
    }
    measured = {row["stability"] is not None for row in after if row["success"]}
    assert measured == {old.revision != "0001"}
    assert all(row["js_attacked"] >= 0 for row in after)


def test_an_old_store_is_as_good_as_a_new_one(old_store):
    """After the upgrade Alembic finds no difference, the store opens, and nothing is wrong with its rows."""
    url = f"sqlite:///{old_store}"
    upgrade(url)
    engine = make_engine(parse_url(url))
    run(engine, command.check)
    engine.dispose()
    with reading_store(url) as connection:
        problems = list(find_problems(connection, old_store.parent))
    # Its files are not kept with it: that they are missing is all there is to say.
    assert problems
    assert [problem for problem in problems if "missing" not in problem] == []


def test_an_old_store_can_be_queried(old_store, old):
    """What was attacked before is in the bug table, as an attack that differs in nothing from the default."""
    url = f"sqlite:///{old_store}"
    upgrade(url)
    with reading_store(url) as connection:
        (row,) = query_bugs(connection, [0.1]).rows
    successes = sum(sample["success"] for sample in _tables(old_store)["sample"])
    assert row["n_attempted"] + row["n_no_baseline"] == old.rows[-1]
    assert 0 < row["n_success"] <= successes


def test_back_to_an_old_revision_and_forward_again(old_store, old):
    """The downgrade takes away what is new and nothing else; the old view is back, and so is the way on.

    Tables made from others may be empty then, and are made again.
    """
    before, view = _tables(old_store), _view(old_store)
    url = f"sqlite:///{old_store}"
    upgrade(url)
    upgraded = _tables(old_store)
    engine = make_engine(parse_url(url))
    run(engine, command.downgrade, old.revision)
    engine.dispose()
    downgraded = _tables(old_store)
    assert downgraded.keys() == before.keys()
    assert {name: rows for name, rows in downgraded.items() if name not in NEW_TABLES} == {
        name: rows for name, rows in before.items() if name not in NEW_TABLES
    }
    assert _view(old_store) == view
    upgrade(url)
    assert _tables(old_store) == upgraded


@pytest.mark.parametrize(
    "old", [old for old in OLD_STORES if old.revision < SEGMENTS_SINCE], ids=lambda old: old.revision
)
def test_an_interrupted_filling_is_gone_on_with(old_store, old, monkeypatch):
    """Killed between the migration and its last column segments: the next upgrade fills the rest."""
    url = f"sqlite:///{old_store}"
    with monkeypatch.context() as patch:
        patch.setattr(migrate, "write_segments", lambda *given: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            upgrade(url)
    assert _tables(old_store)["score_segment"] == []
    assert upgrade(url) == (HEAD_REVISION, None)
    assert sum(row["n"] for row in _tables(old_store)["score_segment"]) == old.rows[-1]
