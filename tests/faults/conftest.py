"""Workspaces to break: the tiny store on each engine."""

import pytest

from jsdelta_db.config.locations import Workspace
from tests.faults.attacks import on_postgresql
from tests.workspaces import copy_of


@pytest.fixture
def sqlite_workspace(tiny, tmp_path) -> Workspace:
    """The tiny store, on SQLite."""
    return copy_of(tiny, tmp_path / "workspace")


@pytest.fixture
def postgres_workspace(tiny, tmp_path, postgres_url) -> Workspace:
    """The tiny store, on PostgreSQL."""
    return on_postgresql(copy_of(tiny, tmp_path / "workspace"), postgres_url)
