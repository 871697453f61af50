"""Exports of attacks that were judged several times: whatever their size, a backup can be restored."""

import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jsdelta_db.config.locations import Workspace
from jsdelta_db.errors import StoreError
from jsdelta_db.exchange import exporting
from jsdelta_db.exchange.source import BATCH_ROWS
from jsdelta_db.store.migrate import upgrade
from tests.exchange.judged_again import write_judged
from tests.exchange.moving import bring, rows_by_uid, workspace_at, write


@pytest.fixture(scope="module")
def empty(tmp_path_factory):
    """A store without rows; migrations take longer than these tests, a copy does not."""
    workspace = workspace_at(tmp_path_factory.mktemp("empty"))
    upgrade(workspace.db_url)
    return workspace


def _new(empty: Workspace, root: Path) -> Workspace:
    """Return a workspace with an empty store."""
    root.mkdir()
    shutil.copy(empty.root / "jsdelta.db", root)
    return workspace_at(root)


def test_attacks_judged_again_are_restored(empty, tmp_path):
    """Attacks of more attempts than a batch has rows, judged twice and three times, and another one."""
    here, there = _new(empty, tmp_path / "here"), _new(empty, tmp_path / "there")
    write_judged(here, [(BATCH_ROWS + 77, 2), (123, 1), (BATCH_ROWS + 1234, 3)])
    write(here, tmp_path / "backup", with_files=False)
    bring(there, tmp_path / "backup", with_files=False)
    assert rows_by_uid(here) == rows_by_uid(there)


@settings(max_examples=8, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from([1, 3, 19, 20, 21, 41]), st.integers(1, 3)), min_size=1, max_size=3)
)
def test_attacks_of_any_sizes_are_read_back(empty, attacks):
    """Rows of attacks and evaluations end anywhere in the batches that they are written and read in."""
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as folder:
        for module in ("source", "parquet", "exporting"):
            patch.setattr(f"jsdelta_db.exchange.{module}.BATCH_ROWS", 20)
        here = _new(empty, Path(folder) / "here")
        write_judged(here, attacks)
        exported = write(here, Path(folder) / "backup", with_files=False)
        assert exported.rows > sum(n + n * evaluations for n, evaluations in attacks)


def test_what_could_not_be_imported_is_not_exported(empty, tmp_path, monkeypatch):
    """An export is read back: what was not written as it is in the store is found before it is a backup."""
    here = _new(empty, tmp_path / "here")
    write_judged(here, [(30, 2)])
    batches = exporting._batches
    monkeypatch.setattr(exporting, "_batches", lambda *given: (batch[1:] for batch in batches(*given)))
    with pytest.raises(StoreError, match="cannot be read back, so none was made"):
        write(here, tmp_path / "backup", with_files=False)
    assert not (tmp_path / "backup").exists()
