"""Workspaces to break, the tiny store on each engine, and the ends of attacks that nothing disturbed."""

from typing import Any

import pytest

from jsdelta_db.config.locations import Workspace
from tests.faults.attacks import (
    ATTACK,
    CHUNK_SIZE,
    QUICK_ATTACK,
    QUICK_CHUNK_SIZE,
    end_of,
    never_stopped,
    on_postgresql,
)
from tests.stores import new_database
from tests.workspaces import copy_of, workspace_at


@pytest.fixture(scope="session")
def calm(tiny, made_once) -> Workspace:
    """The tiny store after ``ATTACK``, which one process made and nothing disturbed. Tests only read it."""
    return workspace_at(made_once("calm", lambda folder: never_stopped(tiny, folder, ATTACK, CHUNK_SIZE)))


@pytest.fixture(scope="session")
def calm_end(calm) -> dict[str, Any]:
    """The end of ``ATTACK``."""
    return end_of(calm)


@pytest.fixture(scope="session")
def quick_end(tiny, made_once) -> dict[str, Any]:
    """The end of ``QUICK_ATTACK`` in three chunks."""

    def make(folder):
        return never_stopped(tiny, folder, QUICK_ATTACK, QUICK_CHUNK_SIZE)

    return end_of(workspace_at(made_once("quick", make)))


@pytest.fixture
def sqlite_workspace(tiny, tmp_path) -> Workspace:
    """The tiny store, on SQLite."""
    return copy_of(tiny, tmp_path / "workspace")


@pytest.fixture
def postgres_workspace(tiny, tmp_path, postgres_server, postgres_template, request) -> Workspace:
    """The tiny store, on PostgreSQL."""
    name = f"faults_{abs(hash(request.node.nodeid)):x}"
    url = new_database(postgres_server, name, postgres_template)
    return on_postgresql(copy_of(tiny, tmp_path / "workspace"), url)
