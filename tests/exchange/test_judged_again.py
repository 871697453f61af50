"""Exports of attacks that were judged several times: whatever their size, a backup can be restored."""

import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jsdelta_db.errors import StoreError
from jsdelta_db.exchange.source import BATCH_ROWS
from tests.exchange.judged_again import write_judged
from tests.exchange.moving import bring, rows_by_uid, workspace_at, write
from tests.reading import tell


def _is_restored(root: Path, attacks: list[tuple[int, int]]) -> bool:
    """Make such a store, export it, import the export, and compare all rows."""
    here, there = workspace_at(root / "here"), workspace_at(root / "there")
    write_judged(here, attacks)
    write(here, root / "backup", with_files=False)
    bring(there, root / "backup", with_files=False)
    return rows_by_uid(here) == rows_by_uid(there)


@pytest.mark.parametrize("n_evaluations", [2, 3])
def test_an_attack_judged_again_is_restored(n_evaluations, tmp_path):
    """More attempts than a batch has rows, judged twice and three times, beside another attack."""
    assert _is_restored(tmp_path, [(1234, 1), (BATCH_ROWS + 1234, n_evaluations)])


@settings(max_examples=8, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from([1, 3, 50, 199, 200, 201, 401]), st.integers(1, 3)), min_size=1, max_size=3
    )
)
def test_attacks_of_any_sizes_are_restored(attacks):
    """Rows of attacks and evaluations end anywhere in the batches that they are written and read in."""
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as folder:
        for module in ("source", "parquet", "exporting"):
            patch.setattr(f"jsdelta_db.exchange.{module}.BATCH_ROWS", 200)
        assert _is_restored(Path(folder), attacks)


def test_what_could_not_be_imported_is_not_exported(tmp_path):
    """An export is read back: scores of other samples are found before anybody relies on the backup."""
    here = workspace_at(tmp_path / "here")
    write_judged(here, [(30, 2)])
    tell(here, "UPDATE score SET sample_index = 900 WHERE evaluation_id = 2 AND sample_index = 3")
    with pytest.raises(StoreError, match="scores of other samples than its attack's"):
        write(here, tmp_path / "backup", with_files=False)
    assert not (tmp_path / "backup").exists()
