"""Stores on the move: exported, imported, merged; what a killed import leaves, and what comes after it."""

import os
import signal
import socket
import subprocess
import sys
import time

import pytest
from sqlalchemy import select, update

from jsdelta_db.config.locations import Workspace
from jsdelta_db.errors import StoreError, StoreNotReadyError, UsageError
from jsdelta_db.exchange import merging, parquet
from jsdelta_db.exchange import source as source_module
from jsdelta_db.exchange.tables import portable_tables, run_tables
from jsdelta_db.queries.bugs import query_bugs
from jsdelta_db.queries.ensembles import query_ensembles
from jsdelta_db.store.creating import open_for_writing
from jsdelta_db.store.reading import reading
from jsdelta_db.store.schema import (
    DERIVED,
    FINISHED,
    PENDING,
    RUNNING,
    AttackChunk,
    Base,
    Evaluation,
    EvaluationChunk,
    Score,
)
from tests.exchange.moving import bring, files_below, rows_by_uid, workspace_at, write
from tests.reading import ask, contents, tell
from tests.stores import ELSEWHERE, ENGINES
from tests.workspaces import copy_of, tiny_attacks


@pytest.fixture(params=ENGINES)
def empty(request, tmp_path) -> Workspace:
    """A workspace without rows, on each engine; PostgreSQL's database has no table yet."""
    url = request.getfixturevalue("postgres_url") if request.param == "postgresql" else None
    return workspace_at(tmp_path / "empty", url)


@pytest.fixture
def small_batches(monkeypatch):
    """Seven rows in a transaction, so that every run takes several."""
    for module in (source_module, parquet):
        monkeypatch.setattr(module, "BATCH_ROWS", 7)


@pytest.fixture(scope="module")
def exported(four, tmp_path_factory):
    """An export of the store ``four``; tests only read it."""
    folder = tmp_path_factory.mktemp("exported") / "export"
    write(four, folder)
    return folder


def bugs(workspace: Workspace):
    """Return the bug table of a whole store."""
    with reading(workspace.db_url) as connection:
        return query_bugs(connection, (0.01, 0.1), ("eps", "ensemble", "attack")).rows


def test_every_table_travels_or_is_derived():
    """A table that is added later is carried without a word, unless it is listed as made from others."""
    assert set(portable_tables()) | {each.__tablename__ for each in DERIVED} == set(Base.metadata.tables)
    assert [table.name for table in run_tables()] == ["dataset", "model", "ensemble", "attack", "evaluation"]


def test_nothing_local_travels():
    """Local ids, owners and MLflow's ids have no column; whoever names a parent does so by its uid."""
    for table in portable_tables().values():
        assert not {"id", "mlflow_run_id", "owner", "heartbeat_at"} & set(table.names)
        assert not [name for name in table.names if name.endswith("_id")]


def test_an_export_brings_everything_to_another_store(exported, four, empty):
    """Rows are equal with uids as identity, files byte for byte, and queries answer the same."""
    outcome = bring(empty, exported)
    assert rows_by_uid(empty) == rows_by_uid(four)
    assert files_below(empty.root).items() <= files_below(four.root).items()
    assert outcome.files == len(files_below(empty.root)) > 10
    assert bugs(empty) == bugs(four)


def test_there_and_back_over_postgresql(four, tmp_path, postgres_url):
    """SQLite to PostgreSQL to SQLite, straight from store to store, ends with the rows it began with."""
    server = workspace_at(tmp_path / "server", postgres_url)
    bring(server, four.root)
    assert rows_by_uid(server) == rows_by_uid(four)
    back = workspace_at(tmp_path / "back")
    bring(back, postgres_url, files_from=server.root)
    assert rows_by_uid(back) == rows_by_uid(four)
    assert files_below(back.root) == files_below(server.root)


def test_importing_again_changes_nothing(exported, four, tmp_path):
    """A second import leaves the store and its files as they are, byte for byte, whatever it comes from."""
    there = workspace_at(tmp_path / "there")
    bring(there, exported)
    before = contents(there)
    for source in (exported, four.root, four.root / "jsdelta.db"):
        outcome = bring(there, source)
        assert (sum(outcome.new.values()), outcome.files) == (0, 0)
    assert contents(there) == before


def test_two_stores_become_one(tiny_copy, four, empty):
    """Runs of both are there once, each with its own results; what both had is not there twice."""
    from jsdelta_db.pipeline.attack import attack_and_score
    from jsdelta_db.workbench.workbench import open_workbench

    with open_workbench(tiny_copy) as bench:
        attack_and_score(bench, tiny_attacks(5, images=20))
    bring(empty, tiny_copy.root)
    outcome = bring(empty, four.root)
    assert dict(outcome.new) == {"model": 1, "ensemble": 1, "attack": 1, "evaluation": 1}
    merged = rows_by_uid(empty)
    for part in (tiny_copy, four):
        for name, rows in rows_by_uid(part).items():
            assert set(rows) <= set(merged[name])
    both = {name: {*rows_by_uid(tiny_copy)[name], *rows_by_uid(four)[name]} for name in merged}
    assert {name: set(rows) for name, rows in merged.items()} == both
    assert {str(row) for row in bugs(empty)} == {str(row) for part in (tiny_copy, four) for row in bugs(part)}


def test_what_is_here_stays(four_copy, exported):
    """A finished run that came back with another name or score is not touched; what was not measured is filled in."""
    tell(four_copy, "UPDATE ensemble SET name = 'mine'")
    tell(four_copy, "UPDATE score SET js = 0.125 WHERE sample_index IN (SELECT min(sample_index) FROM score)")
    before = contents(four_copy)
    bring(four_copy, exported)
    assert contents(four_copy) == before


def test_a_measurement_that_is_missing_here_is_taken(four_copy, tmp_path):
    """A model's sharpness measured elsewhere arrives; one that is here stays."""
    other = copy_of(four_copy, tmp_path / "other")
    tell(other, "UPDATE model SET sharpness = 0.5")
    tell(four_copy, "UPDATE model SET sharpness = 0.25 WHERE seed = 0")
    bring(four_copy, other.root)
    assert ask(four_copy, "SELECT seed, sharpness FROM model ORDER BY seed") == [
        (0, 0.25), (1, 0.5), (2, 0.5), (3, 0.5),
    ]  # fmt: skip


def test_lost_files_come_back(four_copy, exported):
    """An import of what is here restores files that are gone or altered, and no others."""
    files = files_below(four_copy.root)
    uris = [ask(four_copy, f"SELECT {uri} FROM {table}")[0][0] for uri, table in (
        ("checkpoint_uri", "model"), ("uri", "attack_chunk"), ("uri", "model_logits"),
    )]  # fmt: skip
    for uri in uris[:2]:
        (four_copy.root / uri).unlink()
    (four_copy.root / uris[2]).write_bytes(b"damaged")
    assert bring(four_copy, exported).files == 3
    assert files_below(four_copy.root) == files


def test_without_files(exported, four, tmp_path):
    """--no-files brings rows alone, on either side; nothing else lies in the workspace."""
    bare = tmp_path / "bare"
    assert write(four, bare, with_files=False).files is None
    for name, source, options in (("one", bare, {}), ("two", exported, {"with_files": False})):
        there = workspace_at(tmp_path / name)
        assert bring(there, source, **options).files == 0
        assert rows_by_uid(there) == rows_by_uid(four)
        assert files_below(there.root) == {}


def test_only_what_is_finished_travels(four_copy, tmp_path):
    """An unfinished evaluation stays behind, and is counted; all else comes."""
    tell(four_copy, "UPDATE evaluation SET status = 'pending', finished_at = NULL WHERE id = 3")
    there = workspace_at(tmp_path / "there")
    outcome = bring(there, four_copy.root)
    assert (outcome.left_out, outcome.new["evaluation"], outcome.new["attack"]) == (1, 2, 3)


def _unfinish(workspace: Workspace, evaluation: int = 3, **chunk) -> None:
    """Take an evaluation and its attack back to where a killed call leaves them: one chunk of three done."""
    store = open_for_writing(workspace.db_url)
    with store.transaction() as session:
        row = session.get_one(Evaluation, evaluation)
        row.status, row.finished_at = PENDING, None
        for table, column in (
            (EvaluationChunk, EvaluationChunk.evaluation_id), (AttackChunk, AttackChunk.attack_id),
        ):  # fmt: skip
            key = evaluation if table is EvaluationChunk else row.attack_id
            session.execute(
                update(table).where(column == key, table.position > 0)
                .values(**{"status": PENDING, "uri": None, "sha256": None, **chunk})
            )  # fmt: skip
    store.close()
    tell(
        workspace,
        f"UPDATE attack SET finished_at = NULL WHERE id = (SELECT attack_id FROM evaluation WHERE id = {evaluation})",
    )
    for table, key in (
        ("score", f"evaluation_id = {evaluation}"),
        ("sample", f"attack_id = (SELECT attack_id FROM evaluation WHERE id = {evaluation})"),
    ):
        tell(
            workspace,
            f"DELETE FROM {table} WHERE {key} AND sample_index NOT IN (SELECT sample_index FROM {table} WHERE {key} ORDER BY sample_index LIMIT 16)",
        )
    for table in ("score_segment", "image_count"):
        tell(workspace, f"DELETE FROM {table} WHERE evaluation_id = {evaluation}")


def test_what_is_unfinished_here_takes_what_is_finished_there(four_copy, four, exported):
    """A run that was killed here and finished elsewhere is finished here, with the rows from there."""
    _unfinish(four_copy)
    outcome = bring(four_copy, exported)
    assert dict(outcome.new) == {"attack": 1, "evaluation": 1}
    assert rows_by_uid(four_copy) == rows_by_uid(four)
    assert bugs(four_copy) == bugs(four)


def test_begun_here_with_other_results(four_copy, four, exported):
    """Chunks done here that are not the source's give way: a run's results come from one place."""
    _unfinish(four_copy)
    tell(
        four_copy,
        "UPDATE attack_chunk SET sha256 = 'other' WHERE attack_id = (SELECT attack_id FROM evaluation WHERE id = 3) AND position = 0",
    )
    tell(
        four_copy,
        "UPDATE sample SET confidence = 0.5 WHERE attack_id = (SELECT attack_id FROM evaluation WHERE id = 3)",
    )
    bring(four_copy, exported)
    assert rows_by_uid(four_copy) == rows_by_uid(four)


def test_what_somebody_works_on_is_refused(four_copy, exported):
    """A run with a living owner here is named, and nothing changes."""
    _unfinish(four_copy, status=RUNNING, owner=ELSEWHERE, heartbeat_at=time.time())
    before = contents(four_copy)
    with pytest.raises(StoreError, match=r"works on attack .* here; wait for it"):
        bring(four_copy, exported)
    assert contents(four_copy) == before


def test_a_dead_process_is_in_nobodys_way(four_copy, four, exported):
    """Chunks claimed by a process that is gone are taken over."""
    owner = "\t".join((socket.gethostname(), "another boot", "1", "0"))
    _unfinish(four_copy, status=RUNNING, owner=owner, heartbeat_at=time.time())
    bring(four_copy, exported)
    assert rows_by_uid(four_copy) == rows_by_uid(four)


@pytest.mark.parametrize(
    ("statement", "reason"),
    [
        ("UPDATE model SET checkpoint_sha256 = 'other' WHERE id = 4 AND id NOT IN (SELECT model_id FROM evaluation_member)", "other results"),
        ("UPDATE ensemble SET config_hash = 'other'", "something else here"),
    ],
)  # fmt: skip
def test_one_uid_with_two_meanings_is_refused(statement, reason, four_copy, exported):
    """Rows that share a uid and nothing else are named, and nothing changes."""
    if "checkpoint" in statement:
        tell(four_copy, "DELETE FROM evaluation_member WHERE model_id = 4")
    tell(four_copy, statement)
    before = contents(four_copy)
    with pytest.raises(StoreError, match=reason):
        bring(four_copy, exported)
    assert contents(four_copy) == before


def test_scores_of_samples_that_are_others_here_are_refused(four_copy, exported):
    """An evaluation does not come to an attack whose chunk files are others here."""
    tell(
        four_copy,
        "UPDATE attack_chunk SET sha256 = 'other' WHERE attack_id = (SELECT attack_id FROM evaluation WHERE id = 3)",
    )
    tell(four_copy, "UPDATE evaluation SET status = 'pending', finished_at = NULL WHERE id = 3")
    with pytest.raises(StoreError, match=r"finished here and in .* with other results"):
        bring(four_copy, exported)


class StoppedError(Exception):
    """Stands for whatever stops an import."""


def _stop_at(monkeypatch, table: type, call: int) -> None:
    """Let the n-th transaction that writes rows of a table fail."""
    inserted, calls = merging.insert_rows, []

    def insert(session, entity, columns, rows):
        if entity is table:
            calls.append(len(rows))
            if len(calls) == call:
                raise StoppedError
        inserted(session, entity, columns, rows)

    monkeypatch.setattr(merging, "insert_rows", insert)


@pytest.mark.parametrize("call", [1, 4, 15])
def test_a_stopped_import_shows_nothing_unfinished_and_is_repeated(
    call, exported, four, empty, small_batches, monkeypatch
):
    """Until its scores are all in, an evaluation is not seen; the same import again brings the rest."""
    with monkeypatch.context() as patch:
        _stop_at(patch, Score, call)
        with pytest.raises(StoppedError):
            bring(empty, exported)
    store = open_for_writing(empty.db_url)
    with store.transaction() as session:
        states = session.execute(select(Evaluation.status, Evaluation.finished_at)).all()
        chunks = session.execute(select(EvaluationChunk.owner, EvaluationChunk.status)).all()
    store.close()
    assert states[-1] == (PENDING, None)
    assert {row.status for row in states[:-1]} <= {FINISHED}
    assert {(owner, status) for owner, status in chunks} <= {(None, PENDING), (None, FINISHED)}
    complete = {str(row) for row in bugs(four)}
    assert {str(row) for row in bugs(empty)} < complete
    bring(empty, exported)
    assert rows_by_uid(empty) == rows_by_uid(four)
    assert {str(row) for row in bugs(empty)} == complete


KILLED = """
import os, signal, sys
from pathlib import Path
from jsdelta_db.exchange import importing, merging, source, parquet
from jsdelta_db.runtime.progress import Silent
from jsdelta_db.config.locations import resolve_workspace

source.BATCH_ROWS = parquet.BATCH_ROWS = 7
insert, calls = merging.insert_rows, []

def dying(session, entity, columns, rows):
    insert(session, entity, columns, rows)
    calls.append(entity.__tablename__)
    if calls.count("score") == 4:
        os.kill(os.getpid(), signal.SIGKILL)

merging.insert_rows = dying
importing.import_store(resolve_workspace(Path(sys.argv[1])), sys.argv[2], Silent())
"""


def test_a_killed_import_is_repeated(exported, four, tmp_path):
    """After SIGKILL between two batches the same import again ends as one that was never killed."""
    there = workspace_at(tmp_path / "there")
    code = [sys.executable, "-c", KILLED, str(there.root), str(exported)]
    environment = {**os.environ, "PYTHONPATH": str(source_module.__file__).split("/jsdelta_db/")[0]}
    assert subprocess.run(code, check=False, env=environment).returncode == -signal.SIGKILL
    assert ask(there, "SELECT count(*) FROM score") != ask(four, "SELECT count(*) FROM score")
    bring(there, exported)
    assert rows_by_uid(there) == rows_by_uid(four)
    once = workspace_at(tmp_path / "once")
    bring(once, exported)
    assert files_below(there.root) == files_below(once.root)


def test_small_batches_make_the_same_store(exported, tmp_path, small_batches):
    """How many rows travel at a time decides nothing."""
    there, again = workspace_at(tmp_path / "there"), tmp_path / "again"
    bring(there, exported)
    write(there, again)
    assert [path.read_bytes() for path in sorted(again.rglob("*.np?"))] == [
        path.read_bytes() for path in sorted(exported.rglob("*.np?"))
    ]
    assert rows_by_uid(there) == rows_by_uid(workspace_at(tmp_path / "there"))


def test_a_store_is_not_imported_into_itself(four_copy, postgres_url, tmp_path):
    """SOURCE and destination being one store is a mistake, said so."""
    with pytest.raises(UsageError, match="is the store that rows are to go to"):
        bring(four_copy, four_copy.root)
    server = workspace_at(tmp_path / "server", postgres_url)
    with pytest.raises(UsageError, match="is the store that rows are to go to"):
        bring(server, postgres_url)


def test_a_store_of_an_older_schema_says_whose(four_copy, tmp_path):
    """A source that is to be upgraded first is told apart from the destination."""
    tell(four_copy, "UPDATE jsdelta_alembic_version SET version_num = '0001'")
    there = workspace_at(tmp_path / "there")
    with pytest.raises(StoreNotReadyError, match=r"the source is not ready.*schema 0001"):
        bring(there, four_copy.root)
    assert not there.root.exists()


def test_agreement_does_not_depend_on_the_order_in_the_store(four_copy, four, tmp_path):
    """Two models agree as far, in whatever order they arrived, and wherever older versions put the row."""
    with reading(four.db_url) as reader:
        expected = query_ensembles(reader)
    # As an older version wrote it: with the other model of each pair.
    for model_id, name in ask(
        four_copy, "SELECT model_id, name FROM model_metric WHERE name LIKE 'agreement:%'"
    ):
        ((uid,),) = ask(four_copy, "SELECT uid FROM model WHERE id = ?", model_id)
        ((other,),) = ask(four_copy, "SELECT id FROM model WHERE uid = ?", name.removeprefix("agreement:"))
        tell(
            four_copy, "UPDATE model_metric SET model_id = ?, name = ? WHERE model_id = ? AND name = ?",
            other, f"agreement:{uid}", model_id, name,
        )  # fmt: skip
    there = workspace_at(tmp_path / "there")
    bring(there, four_copy.root)
    for workspace in (four_copy, there):
        with reading(workspace.db_url) as reader:
            assert query_ensembles(reader) == expected


@pytest.mark.parametrize("uri", ["../outside.npz", "sitecustomize.py", "/etc/outside.npz"])
def test_a_store_can_not_say_where_files_land(uri, four_copy, empty):
    """Rows of a store may name anything; what lies outside, or could be run, is refused before a row is made."""
    tell(four_copy, f"UPDATE model SET checkpoint_uri = '{uri}' WHERE id = 1")
    with pytest.raises(StoreError, match=r"names .*must be paths inside the workspace"):
        bring(empty, four_copy.root)
    assert not list(empty.root.rglob("*.npz"))


@pytest.mark.parametrize(
    ("column", "value"), [("target_label", 77), ("source_label", -1), ("sample_index", -5)]
)
def test_samples_of_no_label_or_image_are_refused(column, value, four_copy, empty):
    """A label or an image that there cannot be: one line, and nothing is stored."""
    key = "attack_id, sample_index, requested_target"
    tell(
        four_copy, f"UPDATE sample SET {column} = {value} WHERE ({key}) = (SELECT {key} FROM sample LIMIT 1)"
    )
    with pytest.raises(StoreError, match=f"{column} {value} is not valid: must be 0 to"):
        bring(empty, four_copy.root)
    with pytest.raises(StoreNotReadyError):
        bugs(empty)
