"""Rows that a fault of the disk altered: noticed by ``db check`` and by queries, and taken from files again."""

import random
import struct

import numpy as np
import pytest
from sqlalchemy import text

from jsdelta_db.config.measures import Measuring
from jsdelta_db.errors import StoreError
from jsdelta_db.maintenance.check import find_problems
from jsdelta_db.maintenance.repair import repair
from jsdelta_db.queries.bugs import query_bugs
from jsdelta_db.queries.columns import read_segments
from jsdelta_db.queries.selection import ALL_CORRECT, Selection, list_evaluations
from jsdelta_db.records import ImageMeans
from jsdelta_db.store.altered import count_without_digest
from jsdelta_db.store.baselines import read_model_baselines, write_model_baselines
from jsdelta_db.store.creating import open_for_writing
from jsdelta_db.store.schema import Base
from jsdelta_db.store.segments import BLOBS
from jsdelta_db.store.session import reading_store
from jsdelta_db.workbench.workbench import open_workbench
from tests.exchange.judged_again import write_judged
from tests.exchange.moving import workspace_at
from tests.reading import ask, contents, tell
from tests.workspaces import copy_of

GUARDED = ("sample", "score", "rho_baseline", "score_segment", "image_count")
FILLED_LATER = ("sample", "stability")
PLACES = [
    (table, column.name)
    for table in GUARDED
    for column in Base.metadata.tables[table].columns
    if (table, column.name) != FILLED_LATER
]


@pytest.fixture(scope="module")
def guarded(tmp_path_factory):
    """A store of a judged attack and baselines; its files are not there."""
    workspace = workspace_at(tmp_path_factory.mktemp("guarded"))
    write_judged(workspace, [(70, 1)])
    store = open_for_writing(workspace.db_url)
    with store.transaction() as session:
        key = {"model_id": 2, "dataset_id": 1, "split": "baseline", "temperature_rule": "1"}
        means = ImageMeans(np.array([0.5, 0.7]), np.array([0.4, 0.6, 0.8]))
        write_model_baselines(session, key=key, means={(0, 1): means, (1, 2): means})
    yield store
    store.close()


def _flipped(value: object, rng: random.Random, column: str) -> object:
    """Return a value with one bit changed; another value for null."""
    if value is None:
        return 1 if column == "outside" else 0.5
    if isinstance(value, int):
        return value ^ (1 << rng.randrange(8, 14))  # lower ones may give the key of another row
    if isinstance(value, float):
        (bits,) = struct.unpack("<q", struct.pack("<d", value))
        return struct.unpack("<d", struct.pack("<q", bits ^ (1 << rng.randrange(62))))[0]
    content = bytearray(value.encode() if isinstance(value, str) else value)
    place = rng.randrange(len(content))
    content[place] ^= 1 << rng.randrange(5 if isinstance(value, str) else 8)
    return content.decode() if isinstance(value, str) else bytes(content)


def _problems(connection, tmp_path) -> list[str]:
    return [line for line in find_problems(connection, tmp_path) if not line.startswith("file ")]


def _ask(connection) -> list:
    """Ask the questions that read columns in their different ways."""
    betas, right = [0.1, 0.9, 1.9], Selection(population=ALL_CORRECT)
    by, over_images = (["eps"], ["label-pair"]), Measuring(interval="images")
    for _ in read_segments(connection, list_evaluations(connection), BLOBS):  # other questions read the rest
        pass
    return [
        query_bugs(connection, betas, keys, which, measuring=over_images).rows
        for keys in by
        for which in (Selection(), right)
    ]


@pytest.mark.parametrize(("table", "column"), PLACES)
def test_a_flipped_bit_is_noticed(table, column, guarded, tmp_path):
    """One bit anywhere in rows that numbers come from: ``db check`` says so, and of columns a query, too."""
    rng = random.Random(f"{table}.{column}")
    key = ", ".join(each.name for each in Base.metadata.tables[table].primary_key)
    with guarded.engine.connect() as connection:
        driver = connection.connection.driver_connection
        for setting in ("foreign_keys = OFF", "ignore_check_constraints = ON"):
            driver.execute(f"PRAGMA {setting}")
        some = "WHERE success = 1" if table == "score_segment" else ""  # of others no query reads the JSΔ
        expected = _ask(connection)
        rows = connection.execute(text(f"SELECT {key}, {column} FROM {table} {some}")).all()
        *place, value = rng.choice(rows)
        where = " AND ".join(f"{name.strip()} = :k{n}" for n, name in enumerate(key.split(",")))
        values = {f"k{n}": each for n, each in enumerate(place)} | {"value": _flipped(value, rng, column)}
        connection.execute(text(f"UPDATE {table} SET {column} = :value WHERE {where}"), values)
        assert _problems(connection, tmp_path) != []
        if (table, column) == ("image_count", "evaluation_id"):  # no counts there: made from rows again
            assert _ask(connection) == expected
        elif table in ("score_segment", "image_count"):
            with pytest.raises(StoreError, match=r"are altered.*jsdelta doctor --repair"):
                _ask(connection)
        connection.rollback()
        assert _problems(connection, tmp_path) == []


@pytest.mark.parametrize("table", ["score_segment", "image_count"])
def test_columns_that_are_gone_are_noticed(table, guarded, tmp_path):
    """A row that is missing from the columns is noticed as one that is altered."""
    with guarded.engine.connect() as connection:
        first = "(SELECT min(rowid) FROM score_segment)"
        connection.execute(text(f"DELETE FROM {table} WHERE rowid = {first}"))
        assert _problems(connection, tmp_path) != []
        if table == "score_segment":
            with pytest.raises(StoreError, match="are altered"):
                query_bugs(connection, [0.1], [])


def _repaired(workspace) -> list[str]:
    with open_workbench(workspace) as bench:
        return repair(bench)


def _found(workspace) -> list[str]:
    with reading_store(workspace.db_url) as connection:
        return list(find_problems(connection, workspace.root))


ALTERATIONS = (
    ("UPDATE sample SET success = 1 - success WHERE attack_id = 1", "samples of attack"),
    ("UPDATE sample SET sample_index = sample_index + 5000 WHERE attack_id = 1", "samples of attack"),
    ("UPDATE score SET js_delta = js_delta + 1 WHERE evaluation_id = 1", "scores of evaluation"),
    ("UPDATE score SET member_js = x'00' WHERE evaluation_id = 1", "scores of evaluation"),
    ("UPDATE evaluation_chunk SET digest = '1;0' WHERE evaluation_id = 1", "scores of evaluation"),
)


@pytest.fixture(scope="module")
def measured(tiny, tmp_path_factory):
    """A copy of the tiny store in which a stability was filled in later."""
    workspace = copy_of(tiny, tmp_path_factory.mktemp("measured") / "workspace")
    tell(workspace, "UPDATE sample SET stability = 0.5 WHERE attack_id = 1 AND success = 1")
    return workspace


@pytest.mark.parametrize(("statement", "title"), ALTERATIONS)
def test_altered_rows_come_from_their_files_again(statement, title, measured, tmp_path):
    """``doctor --repair`` gives back what was stored, to the bit, and keeps what was filled in later."""
    workspace = copy_of(measured, tmp_path / "copy")
    before = contents(workspace)
    tell(workspace, statement)
    assert any(line.startswith(title.split()[-1]) for line in _found(workspace))
    lines = _repaired(workspace)
    assert [line for line in lines if title in line] == [lines[0]]
    assert lines[0].endswith("from their files again")
    after, files = contents(workspace)
    if "sample_index" not in statement:  # rows under another number lose what was filled in
        assert (after, files) == before
    assert _found(workspace) == []


def test_files_that_are_not_whole_give_no_rows(tiny_copy):
    """Without its files an altered attack stays as it is, and the repair says so."""
    tell(tiny_copy, "UPDATE sample SET confidence = confidence / 2 WHERE attack_id = 1")
    ((uri,),) = ask(tiny_copy, "SELECT uri FROM attack_chunk WHERE attack_id = 1 AND position = 0")
    (tiny_copy.root / uri).unlink()
    before = contents(tiny_copy)
    (line,) = _repaired(tiny_copy)
    assert line.endswith("their files cannot give them back; restore a backup")
    assert contents(tiny_copy) == before


def test_an_altered_baseline_is_not_used(tiny_copy):
    """The next attack refuses an altered baseline; the repair drops it, and it is computed again.

    At once those of the attacked model, which no later attack needs to be there.
    """
    tell(tiny_copy, "UPDATE rho_baseline SET image_means = zeroblob(length(image_means)) WHERE label_low = 0")
    assert any("baseline of labels 0 and" in line for line in _found(tiny_copy))
    with open_workbench(tiny_copy) as bench, bench.store.read_session() as session:
        ((model, dataset, split, rule),) = ask(
            tiny_copy, "SELECT model_id, dataset_id, split, temperature_rule FROM rho_baseline LIMIT 1"
        )
        key = {"model_id": model, "dataset_id": dataset, "split": split, "temperature_rule": rule}
        with pytest.raises(StoreError, match=r"baseline of labels 0 and .* is altered; run jsdelta doctor"):
            read_model_baselines(session, key=key, pairs={(0, 1)})
    assert any("dropped an altered baseline" in line for line in _repaired(tiny_copy))
    assert _found(tiny_copy) == []
    ((attacked,),) = ask(tiny_copy, "SELECT DISTINCT attacked_model_id FROM attack")
    assert ask(tiny_copy, "SELECT DISTINCT model_id FROM rho_baseline WHERE label_low = 0") == [(attacked,)]


def test_rows_from_before_are_counted_and_get_digests(tiny_copy):
    """Rows of an earlier version have no digest, which is no problem; the repair adds the very same ones."""
    before = contents(tiny_copy)
    for table in ("attack_chunk", "evaluation_chunk", "rho_baseline"):
        tell(tiny_copy, f"UPDATE {table} SET digest = NULL")
    ((rows,),) = ask(
        tiny_copy,
        "SELECT (SELECT count(*) FROM sample) + (SELECT count(*) FROM score) + "
        "(SELECT count(*) FROM rho_baseline)",
    )
    with reading_store(tiny_copy.db_url) as connection:
        assert count_without_digest(connection) == rows
    assert _found(tiny_copy) == []
    _repaired(tiny_copy)
    assert contents(tiny_copy) == before
