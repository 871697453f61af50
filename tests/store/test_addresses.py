"""Stores in folders of any name that the system allows: one file, whichever way it is opened."""

import os

import pytest

from jsdelta_db.config.locations import resolve_workspace, sqlite_file, sqlite_url
from jsdelta_db.exchange.open_source import open_source
from jsdelta_db.queries.sql import query_sql
from jsdelta_db.store.addresses import parse_url, show_url
from jsdelta_db.store.creating import open_for_writing
from jsdelta_db.store.reading import reading
from jsdelta_db.store.session import open_store, reading_store
from tests.tracking.test_addresses import NAMES


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_a_store_lies_in_the_folder_as_it_is_named(name, tmp_path):
    """A store is made, opened, read fast and slowly, asked in SQL and taken as a source at one place; no other is made."""
    workspace = resolve_workspace(tmp_path / os.fsdecode(name))
    open_for_writing(workspace.db_url).close()
    assert (workspace.root / "jsdelta.db").is_file()
    open_store(workspace.db_url).close()
    with reading(workspace.db_url), reading_store(workspace.db_url):
        pass
    assert query_sql(workspace.db_url, "SELECT count(*) FROM dataset", 5).rows == [(0,)]
    with open_source(str(workspace.root), resolve_workspace(tmp_path / "other")):
        pass
    assert [each.name for each in tmp_path.iterdir()] == [workspace.root.name]


@pytest.mark.parametrize("name", ["/a%20b/c?d.db", "relative#1.db", "/srv/\udcff.db"])
def test_an_address_names_its_file_as_it_stands(name):
    """Nothing in a file's name is quoted on the way into an address, and nothing decoded on the way out."""
    assert str(sqlite_file(sqlite_url(name))) == name
    assert show_url(parse_url(sqlite_url(name))) == name
