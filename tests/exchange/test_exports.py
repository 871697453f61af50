"""Exports: made aside, read by other tools, and refused where anything of them does not fit."""

import fcntl
import json
import math
import os
import shutil
import struct

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jsdelta_db.errors import CheckpointError, StoreError, UsageError
from jsdelta_db.exchange import exporting
from jsdelta_db.exchange.source import check_uri
from jsdelta_db.store.constants import HEAD_REVISION
from tests.exchange.moving import (
    bring,
    edit_manifest,
    files_below,
    replaced,
    rewrite,
    rows_by_uid,
    workspace_at,
    write,
)
from tests.reading import ask, contents, tell


@pytest.fixture(scope="module")
def exported(tiny, tmp_path_factory):
    """An export of the tiny store; tests only read it."""
    folder = tmp_path_factory.mktemp("exported") / "export"
    write(tiny, folder)
    return folder


@pytest.fixture
def export(exported, tmp_path):
    """A copy of it that a test may damage."""
    return shutil.copytree(exported, tmp_path / "export")


@pytest.fixture
def refused(export, tiny_copy, tmp_path):
    """A function that imports the export: it must be refused in one line, and nothing may change."""

    def refuse(reason: str, kind: type[Exception] = StoreError) -> None:
        before, new = contents(tiny_copy), workspace_at(tmp_path / "new")
        for workspace in (tiny_copy, new):
            with pytest.raises(kind, match=reason) as caught:
                bring(workspace, export)
            assert "\n" not in str(caught.value)
        assert contents(tiny_copy) == before
        assert not new.root.exists()

    return refuse


def test_other_tools_read_the_tables(exported, tiny):
    """Every table is plain Parquet; scores and samples join by uid, as they do in the store."""
    scores = pq.read_table(exported / "tables" / "score.parquet")
    assert scores.schema.field("js_delta").type == pa.float64()
    evaluations = pq.read_table(exported / "tables" / "evaluation.parquet").to_pylist()
    found = sum(
        row["js_delta"] for row in scores.to_pylist() if row["evaluation_uid"] == evaluations[0]["uid"]
    )
    ((expected,),) = ask(tiny, "SELECT sum(js_delta) FROM score WHERE evaluation_id = 1")
    assert found == pytest.approx(expected)


def test_the_manifest_says_what_there_is(exported, tiny):
    """Revision, rows and files are counted."""
    manifest = json.loads((exported / "manifest.json").read_text())
    assert manifest["revision"] == HEAD_REVISION
    assert manifest["tables"]["sample"]["rows"] == ask(tiny, "SELECT count(*) FROM sample")[0][0]
    assert manifest["files"] == len(files_below(exported / "files"))


def test_an_export_leaves_the_store_alone(tiny_copy, tmp_path):
    """Exporting reads: rows and files stay as they are, and nothing is left beside the folder."""
    before, there = contents(tiny_copy), set(tmp_path.iterdir())
    write(tiny_copy, tmp_path / "export")
    assert contents(tiny_copy) == before
    assert set(tmp_path.iterdir()) - there == {tmp_path / "export"}


def test_an_earlier_export_is_replaced_when_the_new_one_is_whole(tiny_copy, export, monkeypatch):
    """A failing export leaves the earlier one as it was; one that succeeds takes its place."""
    before = {path: path.read_bytes() for path in export.rglob("*") if path.is_file()}
    with monkeypatch.context() as patch:
        patch.setattr(
            exporting, "write_manifest", lambda *given: (_ for _ in ()).throw(OSError(28, "No space left"))
        )
        with pytest.raises(StoreError, match="No space left"):
            write(tiny_copy, export)
    assert {path: path.read_bytes() for path in export.rglob("*") if path.is_file()} == before
    write(tiny_copy, export, with_files=False)
    assert sorted(path.name for path in export.iterdir()) == ["manifest.json", "tables"]
    assert sorted(path.name for path in export.parent.iterdir()) == ["copy", "export"]


@pytest.mark.parametrize("name", ["notes.txt", "manifest.json"])
def test_a_folder_with_anything_else_is_left_alone(name, tiny, tmp_path):
    """Only new or empty folders and earlier exports are written to; what is there is named."""
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / name).write_text("{}")
    with pytest.raises(UsageError, match=name):
        write(tiny, folder)
    assert [path.name for path in folder.iterdir()] == [name]
    (folder / name).unlink()
    write(tiny, folder)


def test_an_export_with_a_file_of_somebody_else_is_left_alone(tiny, export):
    """Notes that were put into an export are not lost to the next one."""
    (export / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match=r"notes\.txt"):
        write(tiny, export)
    assert (export / "notes.txt").read_text() == "mine"


def test_two_exports_to_one_folder(tiny, tmp_path):
    """The second says that the first is at work."""
    aside = tmp_path / ".export.part"
    aside.mkdir()
    held = os.open(aside, os.O_RDONLY)
    fcntl.flock(held, fcntl.LOCK_EX)
    try:
        with pytest.raises(StoreError, match="another process is exporting"):
            write(tiny, tmp_path / "export")
    finally:
        os.close(held)
    (aside / "left.parquet").write_text("by a killed export")
    write(tiny, tmp_path / "export")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["export"]


def test_a_folder_below_a_file_is_refused(tiny, tmp_path):
    """A folder that cannot be made is a mistake in --output, and nothing is left behind."""
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UsageError, match=r"--output .* cannot be made: .*; choose another folder"):
        write(tiny, tmp_path / "file" / "export")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize(("damage", "reason"), [("remove", "is missing"), ("cut", "altered")])
def test_an_export_needs_its_files_whole(damage, reason, tiny_copy, tmp_path):
    """A checkpoint that is gone or altered is named; --no-files goes on without."""
    ((uri,),) = ask(tiny_copy, "SELECT checkpoint_uri FROM model WHERE id = 1")
    path = tiny_copy.root / uri
    path.unlink() if damage == "remove" else path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises((StoreError, CheckpointError), match=reason):
        write(tiny_copy, tmp_path / "export")
    assert not (tmp_path / "export").exists()
    write(tiny_copy, tmp_path / "export", with_files=False)


def test_a_store_that_lacks_rows_is_not_exported(tiny_copy, tmp_path):
    """An evaluation without all of its scores is named, with both numbers."""
    tell(tiny_copy, "DELETE FROM score WHERE sample_index IN (SELECT min(sample_index) FROM score)")
    with pytest.raises(StoreError, match=r"has \d+ rows of score, \d+ were planned"):
        write(tiny_copy, tmp_path / "export")


def test_half_written_folders_are_refused(export, refused):
    """A folder without a manifest was never finished."""
    (export / "manifest.json").unlink()
    refused("neither manifest.json nor jsdelta.db")


@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        ({"format": "other"}, "format 'other'"),
        ({"version": 2}, "version 2"),
        ({"tables": None}, "is not complete"),
        ({"tables": {}}, "tables missing or unknown: attack"),
        ({"files": 3}, "the manifest says 3"),
        ({"files": "many"}, "is not complete"),
    ],
)
def test_a_manifest_that_is_not_ours_is_refused(facts, reason, export, refused):
    """What the manifest says has to fit what this version reads, and the folder."""
    edit_manifest(export, **facts)
    refused(reason)


def test_a_manifest_that_is_no_json_is_refused(export, refused):
    """Garbage is named as what cannot be read."""
    (export / "manifest.json").write_text("{half of")
    refused("cannot be read")


@pytest.mark.parametrize("damage", ["remove", "cut", "another"])
@pytest.mark.parametrize("table", ["model", "score"])
def test_tables_are_held_against_their_hash(damage, table, export, refused):
    """A table's file that is gone or altered is named."""
    path = export / "tables" / f"{table}.parquet"
    if damage == "remove":
        path.unlink()
    elif damage == "cut":
        path.write_bytes(path.read_bytes()[:-100])
    else:
        shutil.copy(export / "tables" / "sample.parquet", path)
    refused(f"{table}.parquet is missing or altered")


@pytest.mark.parametrize("damage", ["remove", "cut"])
@pytest.mark.parametrize("table", ["model", "model_logits", "attack_chunk", "evaluation_chunk"])
def test_files_are_held_against_their_hash(damage, table, export, refused):
    """A file that is gone or altered is named, before anything is written."""
    (row,) = pq.read_table(export / "tables" / f"{table}.parquet").slice(0, 1).to_pylist()
    path = export / "files" / (row.get("uri") or row.get("checkpoint_uri"))
    path.unlink() if damage == "remove" else path.write_bytes(path.read_bytes()[:-1])
    refused(f"{path.name} is missing or altered")


PACKED_NAN = struct.pack("<2f", 0.5, math.nan)


@pytest.mark.parametrize(
    ("table", "change", "reason"),
    [
        ("score", replaced("js", math.nan), "column js holds a value that is not finite"),
        ("score", replaced("js_delta", math.inf), "column js_delta holds a value that is not finite"),
        ("score", replaced("member_js", PACKED_NAN), "column member_js holds no array of finite numbers"),
        ("score", replaced("member_js", b"123"), "column member_js holds no array of finite numbers"),
        ("score", lambda rows: rows.drop_columns("js"), "column js is missing"),
        ("score", lambda rows: rows.append_column("extra", rows.column("js")), "column extra is unknown"),
        ("score", lambda rows: rows.slice(1), "rows of score"),
        ("sample", lambda rows: rows.slice(1), "rows of sample"),
        ("sample", replaced("success", 2), "column success holds other values"),
        ("sample", replaced("sample_index", 99_999), "are there twice or out of order"),
        ("score", replaced("evaluation_uid", "0123456789abcdef"), "out of order, or it is not there"),
        ("score", lambda rows: rows.take(list(range(len(rows)))[::-1]), "out of order"),
        ("model", replaced("dataset_uid", "0123456789abcdef"), "names a dataset that is not there"),
        ("model", replaced("uid", "../../etc"), "is not 16 hex digits"),
        ("model", replaced("status", "running"), "only what is finished travels"),
        ("model", replaced("recipe", '{"epochs": NaN}'), "no valid JSON"),
        ("model", replaced("checkpoint_uri", "../evil.pt"), "names '../evil.pt'"),
        ("model", replaced("checkpoint_uri", "/etc/evil.pt"), "names '/etc/evil.pt'"),
        ("model", replaced("checkpoint_uri", "jsdelta.db"), "names 'jsdelta.db'"),
        ("model_logits", replaced("uri", "mlruns/../../evil.npy"), "names 'mlruns/"),
        ("attack_chunk", replaced("uri", "numpy.py"), "names 'numpy.py'"),
        ("evaluation", replaced("artifact_uri", "../.."), "names '../..'"),
        ("ensemble_member", replaced("model_uid", "0123456789abcdef"), "names a model that is not there"),
        (
            "score",
            lambda rows: rows.set_column(3, "js", rows.column("js").cast(pa.float32())),
            "column js is float, must be double",
        ),
        (
            "model",
            lambda rows: rows.set_column(0, "uid", pa.array([None] * len(rows), pa.string())),
            "column uid has no value",
        ),
    ],
)
def test_tables_are_held_against_the_schema_and_each_other(table, change, reason, export, refused):
    """With every hash in order, rows that do not belong in a store are still refused."""
    rewrite(export, table, change)
    refused(reason)


def test_files_that_are_no_parquet_are_refused(export, refused):
    """Bytes of another kind with the right hash are named as no Parquet."""
    rewrite(export, "score", lambda rows: rows)
    path = export / "tables" / "score.parquet"
    path.write_bytes(b"PAR1 no more PAR1")
    manifest = json.loads((export / "manifest.json").read_text())
    manifest["tables"]["score"]["sha256"] = exporting.sha256_of_file(path)
    edit_manifest(export, **manifest)
    refused("cannot be read as Parquet")


@pytest.mark.parametrize(
    "uri",
    [
        "../a.pt",
        "a/../../b.pt",
        "/a.pt",
        "a\\..\\b.pt",
        ".hidden/a.pt",
        "a/.git/b.npy",
        "a.py",
        "a",
        "",
        "a\0.pt",
        ".",
    ],
)
def test_paths_outside_or_of_code_are_refused(uri):
    """A path in an import stays inside the workspace, out of hidden folders, and names data."""
    with pytest.raises(StoreError, match="must be paths inside the workspace"):
        check_uri("here", uri)


def test_files_of_other_rows_are_not_overwritten(export, tiny_copy):
    """An import that names a file of this store's with other content is refused; the file stays."""
    ((uri,),) = ask(tiny_copy, "SELECT uri FROM model_logits WHERE model_id = 1 AND split = 'attack'")
    place = export / "files" / uri
    place.write_bytes(b"other logits")
    logits = pq.read_table(export / "tables" / "model_logits.parquet").to_pylist()
    row = next(number for number, each in enumerate(logits) if each["uri"] == uri)
    rewrite(export, "model_logits", replaced("sha256", exporting.sha256_of_file(place), row))
    rewrite(export, "model_logits", replaced("split", "another", row))
    before = contents(tiny_copy), files_below(tiny_copy.root)
    with pytest.raises(StoreError, match="belongs to another row here"):
        bring(tiny_copy, export)
    assert (contents(tiny_copy), files_below(tiny_copy.root)) == before


def test_an_export_of_an_import_is_the_same(exported, tiny, tmp_path):
    """What went out and in comes out again: rows, and the files that they name."""
    there = workspace_at(tmp_path / "there")
    bring(there, exported)
    write(there, tmp_path / "again")
    assert rows_by_uid(there) == rows_by_uid(tiny)
    assert files_below(tmp_path / "again" / "files") == files_below(exported / "files")
