"""Exports of past releases, imported: their rows say what they would after a store's upgrade."""

import shutil
from pathlib import Path

import pytest
from sqlalchemy import inspect

from jsdelta_db.errors import StoreNotReadyError
from jsdelta_db.exchange.revisions import ADDED
from jsdelta_db.store import migrate
from jsdelta_db.store.addresses import parse_url
from jsdelta_db.store.constants import HEAD_REVISION
from jsdelta_db.store.migrate import upgrade
from jsdelta_db.store.schema import DERIVED
from jsdelta_db.store.session import make_engine
from tests.exchange.moving import bring, edit_manifest, rows_by_uid, workspace_at
from tests.reading import ask
from tests.store.old_stores import OLD_STORES, OldStore


@pytest.fixture(params=OLD_STORES, ids=lambda old: old.revision)
def old(request) -> OldStore:
    """Each past revision."""
    return request.param


def _export_of(old: OldStore) -> Path:
    """Return where the export of an old store is committed.

    Exports exist since 0003; the older two are what their stores would have written.
    """
    return old.file.parent / f"export-{old.revision}"


def test_every_revision_is_known():
    """What a schema added is listed; the newest one's exports are what all other tests here make.

    Every past revision has a committed export, as each has a store (``test_old_stores.py``).
    """
    assert list(ADDED) == [*(old.revision for old in OLD_STORES), HEAD_REVISION]
    assert [old.revision for old in OLD_STORES if not _export_of(old).is_dir()] == []


def test_an_old_export_is_imported(old, tmp_path):
    """Its rows are those of the store that it came from, after the upgrade of that store."""
    upgraded, there = workspace_at(tmp_path / "upgraded"), workspace_at(tmp_path / "there")
    upgraded.root.mkdir()
    shutil.copy(old.file, upgraded.root / "jsdelta.db")
    upgrade(upgraded.db_url)
    bring(there, _export_of(old))
    assert rows_by_uid(there) == rows_by_uid(upgraded)
    assert ask(there, "SELECT count(*) FROM score") == [(old.rows[-1],)]


def _columns(url: str) -> dict[str, set[str]]:
    engine = make_engine(parse_url(url), read_only=True)
    found = inspect(engine)
    columns = {name: {each["name"] for each in found.get_columns(name)} for name in found.get_table_names()}
    engine.dispose()
    return columns


@pytest.mark.parametrize("revision", ADDED)
def test_what_is_filled_in_is_what_the_migration_added(revision, tmp_path):
    """A column that a migration adds is filled in for older exports, and no other."""
    url = f"sqlite:///{tmp_path / 'jsdelta.db'}"
    before: dict[str, set[str]] = {}
    if f"{int(revision) - 1:04}" in ADDED:
        migrate.upgrade(url, f"{int(revision) - 1:04}")
        before = _columns(url)
    (tmp_path / "jsdelta.db").unlink(missing_ok=True)
    migrate.upgrade(url, revision)
    made_anew = {each.__tablename__ for each in DERIVED}
    added = {name: columns - before[name] for name, columns in _columns(url).items() if name in before}
    assert {name: each for name, each in added.items() if each and name not in made_anew} == {
        name: set(values) for name, values in ADDED[revision].items()
    }


@pytest.mark.parametrize(
    ("revision", "advice"), [("9999", "update jsdelta"), ("x", "newer"), (3, "one of 0001")]
)
def test_an_unknown_schema_is_refused(revision, advice, tmp_path):
    """An export of a newer revision, or of none of ours, names what can be read."""
    export = shutil.copytree(_export_of(OLD_STORES[-1]), tmp_path / "export")
    edit_manifest(export, revision=revision)
    with pytest.raises(StoreNotReadyError, match=advice):
        bring(workspace_at(tmp_path / "there"), export)
