"""Evaluations of an earlier version: what later versions store is filled in by ``doctor --repair``."""

import pytest

from jsdelta_db.maintenance.check import find_problems
from jsdelta_db.maintenance.doctor import diagnose
from jsdelta_db.maintenance.repair import repair
from jsdelta_db.queries.bugs import query_bugs
from jsdelta_db.queries.columns import read_segments
from jsdelta_db.queries.selection import list_evaluations
from jsdelta_db.store.digests import digest_stored
from jsdelta_db.store.segments import BLOBS
from jsdelta_db.store.session import reading_store
from jsdelta_db.workbench.workbench import open_workbench
from tests.reading import ask, contents, tell

LATER = BLOBS[BLOBS.index("js_delta") + 1 :]


def _make_older(workspace) -> None:
    """Take away all that an evaluation of schema 0006 did not store; its digests are those of that time."""
    tell(workspace, "UPDATE score SET n_right_adv = NULL, js_of_mean_without = NULL")
    tell(workspace, "UPDATE evaluation_baseline SET rho_of_mean_without = NULL")
    tell(workspace, "DELETE FROM rho_baseline WHERE model_id IN (SELECT attacked_model_id FROM attack)")
    nulls = ", ".join(f"{name} = NULL" for name in LATER)
    tell(workspace, f"UPDATE score_segment SET checksums = substr(checksums, 1, 16), {nulls}")
    for (evaluation_id,) in ask(workspace, "SELECT id FROM evaluation"):
        with reading_store(workspace.db_url) as connection:
            _, digest = digest_stored(connection, "score", "evaluation_id", evaluation_id)
        tell(
            workspace, "UPDATE evaluation_chunk SET digest = ? WHERE evaluation_id = ?", digest, evaluation_id
        )


def _problems(workspace) -> list[str]:
    with reading_store(workspace.db_url) as connection:
        return list(find_problems(connection, workspace.root))


def _repaired(workspace) -> list[str]:
    with open_workbench(workspace) as bench:
        return repair(bench)


def _said_of_columns(workspace) -> list[str]:
    return [row["found"] for row in diagnose(workspace) if row["check"] == "columns"]


def _bugs(workspace) -> list:
    with reading_store(workspace.db_url) as connection:
        return query_bugs(connection, [0.1]).rows


def test_what_is_filled_in_is_what_a_new_evaluation_stores(tiny_copy):
    """The store is whole without it, doctor says what it lacks, and the repair gives the very same rows.

    Each evaluation has one chunk, so that the digest of its rows is that of the chunk.
    """
    assert ask(tiny_copy, "SELECT DISTINCT position FROM evaluation_chunk") == [(0,)]
    rows, files = contents(tiny_copy)
    bugs = _bugs(tiny_copy)
    assert _said_of_columns(tiny_copy) == []
    _make_older(tiny_copy)
    assert _problems(tiny_copy) == []
    assert _bugs(tiny_copy) == bugs
    (found,) = _said_of_columns(tiny_copy)
    assert found.startswith("2 evaluation(s)")
    assert "doctor --repair" in found
    lines = _repaired(tiny_copy)
    for what in ("filled in the scores", "added the baselines", "rebuilt the columns"):
        assert [what in line for line in lines].count(True) == 2
    assert _problems(tiny_copy) == _said_of_columns(tiny_copy) == []
    found_rows, found_files = contents(tiny_copy)
    assert (sorted(found_rows), found_files) == (sorted(rows), files)
    assert _repaired(tiny_copy) == []


def test_columns_that_the_store_lacks_are_not_loaded(tiny_copy):
    """Segments of an earlier version load as before; what they lack is None."""
    _make_older(tiny_copy)
    with reading_store(tiny_copy.db_url) as connection:
        for _, segments in read_segments(connection, list_evaluations(connection), BLOBS):
            for segment in segments:
                assert all(getattr(segment, name) is None for name in LATER)
                assert len(segment.sample_index) == len(segment.js_delta) == segment.n


@pytest.mark.parametrize("table", ["evaluation_chunk", "model_logits"])
def test_without_the_logits_the_repair_says_what_stays(table, tiny_copy):
    """The columns that come from rows are made; what needs a file that is gone stays null, and is named."""
    _make_older(tiny_copy)
    for (uri,) in ask(tiny_copy, f"SELECT uri FROM {table}"):
        (tiny_copy.root / uri).unlink()
    lines = _repaired(tiny_copy)
    assert sum("stay without n_right_adv" in line for line in lines) == 2
    assert sum("rebuilt the columns" in line for line in lines) == 2
    assert ask(tiny_copy, "SELECT DISTINCT n_right_adv FROM score") == [(None,)]
    assert ask(tiny_copy, "SELECT count(*) FROM score_segment WHERE member_js IS NULL") == [(0,)]


def test_altered_scores_are_not_filled_in(tiny_copy):
    """A new digest would vouch for them: rows that cannot be restored stay as they are, their columns too."""
    _make_older(tiny_copy)
    tell(tiny_copy, "UPDATE score SET js = js / 2 WHERE evaluation_id = 1")
    ((uri,),) = ask(tiny_copy, "SELECT uri FROM evaluation_chunk WHERE evaluation_id = 1")
    (tiny_copy.root / uri).unlink()
    digests = ask(tiny_copy, "SELECT digest FROM evaluation_chunk WHERE evaluation_id = 1")
    lines = _repaired(tiny_copy)
    assert any("restore a backup" in line for line in lines)
    assert ask(tiny_copy, "SELECT digest FROM evaluation_chunk WHERE evaluation_id = 1") == digests
    assert ask(tiny_copy, "SELECT DISTINCT n_right_adv IS NULL FROM score WHERE evaluation_id = 1") == [(1,)]
