"""Fixtures of the queries' tests."""

import shutil

import pytest

from jsdelta_db.store.creating import open_for_writing
from tests.queries.bench import ROWS, Bench


@pytest.fixture
def store(tmp_path, empty_store):
    """An empty SQLite store."""
    shutil.copy(empty_store, tmp_path / "jsdelta.db")
    opened = open_for_writing(f"sqlite:///{tmp_path / 'jsdelta.db'}")
    yield opened
    opened.close()


@pytest.fixture
def two_ensembles(store):
    """Two ensembles of different data sets and methods, each attacked at two ε."""
    benches = (
        Bench(store, dataset="toy", ensemble="plain", method="standard"),
        Bench(store, dataset="other", ensemble="flat", method="sam"),
    )
    return {
        bench.ensemble.name: (bench, [bench.judge(ROWS, eps=level / 255) for level in (3, 8)])
        for bench in benches
    }
