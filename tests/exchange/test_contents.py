"""Impossible values in exports and stores, every hash in order: refused before the first row is written."""

import json
import re
import shutil
import struct

import pytest

from jsdelta_db.errors import StoreError
from jsdelta_db.maintenance.check import find_problems
from jsdelta_db.store.migrate import upgrade
from jsdelta_db.store.session import reading_store
from tests.exchange.judged_again import write_judged
from tests.exchange.moving import bring, replaced, rewrite, workspace_at, write
from tests.reading import ask, contents, tell

IMPOSSIBLE = [
    ("score", "js_delta", -5.0, "js_delta -5 is not valid: must be 0 to 20"),
    ("score", "js_delta", 1e300, "js_delta .* is not valid: must be 0 to 20"),
    ("score", "js", 1.5, "js 1.5 is not valid: must be 0 to 1"),
    ("score", "n_right", 2, "are not those of 1 evaluators"),
    ("score", "member_js", struct.pack("<f", -1.0), "member_js -1 is not valid: must be 0 to 1"),
    ("score", "member_js", struct.pack("<2f", 0.5, 0.5), "are not those of 1 evaluators"),
    ("score", "js_of_mean", 0.123, "its rows of score are not those that were stored"),
    ("sample", "target_label", 77, "target_label 77 is not valid: must be 0 to 3"),
    ("sample", "requested_target", -2, "requested_target -2 is not valid: must be -1 to 3"),
    ("sample", "source_label", -1, "source_label -1 is not valid"),
    ("sample", "sample_index", 2, "are there twice or out of order"),
    ("sample", "confidence", 1.01, "confidence 1.01.* is not valid"),
    ("sample", "stability", -0.1, "stability -0.1.* is not valid"),
    ("attack", "norm", "l7", "norm 'l7' is not valid: must be 'linf' or 'l2'"),
    ("attack", "chunk_size", 0, "chunk_size 0 is not valid: must be 1 to"),
    ("attack", "eps", 0.0, "eps 0 is not valid: must be above 0"),
    ("attack", "eps", 1e9, "eps 1000000000 is not valid"),
    ("attack", "n_attempts", 71, "were planned"),
    ("attack", "attacked_sha256", "another", "attacked_sha256 is not the"),
    ("attack_chunk", "n_attempts", 7, "do not hold the 70 attempts"),
    ("attack_chunk", "position", 1, "do not hold the 70 attempts"),
    ("attack_chunk", "digest", "1:0", "are not those that were stored"),
    ("evaluation_member", "temperature", 0.0, "temperature 0 is not valid: must be above 0"),
    ("evaluation_member", "model_sha256", "another", "model_sha256 is not the"),
    ("evaluation", "temperature_rule", "hot", "temperature_rule 'hot' is not valid"),
    ("attack", "image_keys", b"8 bytes.", "image_keys are not those of .* images"),
    ("dataset", "classes", json.dumps({"0": "zero"}), "classes are not valid"),
    ("score", "n_right_adv", 2, "are not those of 1 evaluators"),
    ("score", "n_right_adv", None, "its rows of score are not those that were stored"),
    ("score", "js_of_mean_without", struct.pack("<f", 1.5), "js_of_mean_without 1.5 is not valid"),
    ("score", "js_of_mean_without", struct.pack("<2f", 0.5, 0.5), "are not those of 1 evaluators"),
    ("score", "js_of_mean_without", None, "its rows of score are not those that were stored"),
]


@pytest.fixture(scope="module")
def judged(tmp_path_factory):
    """A store of an attack that was judged once, and its export without files."""
    workspace = workspace_at(tmp_path_factory.mktemp("judged") / "store")
    write_judged(workspace, [(70, 1)])
    write(workspace, workspace.root.parent / "export", with_files=False)
    return workspace


@pytest.fixture(scope="module")
def empty(tmp_path_factory):
    """An empty store; refused imports leave it as it is."""
    workspace = workspace_at(tmp_path_factory.mktemp("empty"))
    upgrade(workspace.db_url)
    return workspace


@pytest.mark.parametrize(("table", "column", "value", "reason"), IMPOSSIBLE)
def test_impossible_values_are_not_imported(table, column, value, reason, judged, empty, tmp_path):
    """An export whose hashes are right is refused in one line, and no row of it is stored."""
    export = shutil.copytree(judged.root.parent / "export", tmp_path / "export")
    rewrite(export, table, replaced(column, value))
    before = contents(empty)
    with pytest.raises(StoreError, match=reason) as caught:
        bring(empty, export, with_files=False)
    assert "\n" not in str(caught.value)
    assert contents(empty) == before


@pytest.mark.parametrize(("table", "column", "value", "reason"), [IMPOSSIBLE[i] for i in (0, 7, 13, 14)])
def test_impossible_values_of_a_store(table, column, value, reason, judged, empty, tmp_path):
    """Another store is refused as an export is, cannot be exported, and ``db check`` names the value."""
    workspace = workspace_at(tmp_path / "store")
    shutil.copytree(judged.root, workspace.root)
    tell(workspace, f"UPDATE {table} SET {column} = ?", value)
    before = contents(empty)
    for move in (lambda: bring(empty, workspace.root), lambda: write(workspace, tmp_path / "export")):
        with pytest.raises(StoreError, match=reason):
            move()
    assert contents(empty) == before
    assert not (tmp_path / "export").exists()
    if column != "target_label":  # whose limit is the data set's
        with reading_store(workspace.db_url) as connection:
            problems = list(find_problems(connection, workspace.root))
        assert any(line.startswith(f"{table}.{column}: ") for line in problems)


def test_text_in_a_column_of_numbers(judged, empty, tmp_path):
    """SQLite takes any value anywhere; an import does not."""
    workspace = workspace_at(tmp_path / "store")
    shutil.copytree(judged.root, workspace.root)
    tell(workspace, "UPDATE attack SET steps = 'many'")
    with pytest.raises(StoreError, match="steps 'many' is not valid: must be int"):
        bring(empty, workspace.root)


ADDED = {
    "kind": "npz", "image_shape": [3, 8, 8], "mean": [0.5, 0.4, 0.3], "std": [0.2, 1.0, 1], "dtype": "uint8",
    "n_images": 60, "n_train": 36, "n_baseline": 12, "n_attack": 12, "n_broken": 1,
}  # fmt: skip
IMPOSSIBLE_FACTS = [
    ({"mean": ["0.5", 0.4, 0.3]}, r"mean \['0.5', 0.4, 0.3\] is not valid: must be 3 numbers from 0 to 1"),
    ({"mean": [0.5]}, r"mean \[0.5\] is not valid: must be 3 numbers"),
    ({"mean": None}, "mean None is not valid"),
    ({"mean": [0.5, 0.4, -0.1]}, "mean .* is not valid: must be 3 numbers from 0 to 1"),
    ({"std": [0.2, 0.2, 0.0]}, "std .* is not valid: must be 3 numbers above 0"),
    ({"std": [0.2, 0.2, 1e300]}, "std .* is not valid"),
    ({"std": [0.2, 0.2, True]}, "std .* is not valid"),
    ({"image_shape": [8, 8]}, r"image_shape \[8, 8\] is not valid: must be channels, height and width"),
    ({"image_shape": [3, 0, 8]}, "image_shape .* is not valid"),
    ({"image_shape": "3x8x8"}, "image_shape '3x8x8' is not valid"),
    ({"dtype": "object"}, "dtype 'object' is not valid: must be uint8 or float32"),
    ({"n_broken": -1}, "n_broken -1 is not valid"),
    ({"n_images": 61}, "n_images 61 is not valid: must be the 60 of its splits"),
    ([], r"construction \[\] is not valid: must be an object"),
    (None, "construction None is not valid"),
]


def described(changes):
    """Return an added set's facts, some of them others."""
    return json.dumps({**ADDED, **changes} if isinstance(changes, dict) else changes)


@pytest.mark.parametrize(("changes", "reason"), IMPOSSIBLE_FACTS)
def test_impossible_facts_of_an_added_data_set(changes, reason, judged, empty, tmp_path):
    """Refused in one line, before the first row; in a store ``db check`` names them."""
    export = shutil.copytree(judged.root.parent / "export", tmp_path / "export")
    rewrite(export, "dataset", replaced("kind", "external"))
    rewrite(export, "dataset", replaced("construction", described(changes)))
    before = contents(empty)
    with pytest.raises(StoreError, match=reason) as caught:
        bring(empty, export, with_files=False)
    assert "\n" not in str(caught.value)
    assert contents(empty) == before
    workspace = workspace_at(tmp_path / "store")
    shutil.copytree(judged.root, workspace.root)
    tell(workspace, "UPDATE dataset SET kind = 'external', construction = ?", described(changes))
    with reading_store(workspace.db_url) as connection:
        problems = list(find_problems(connection, workspace.root))
    assert any(re.search(f"^dataset .*{reason}", line) for line in problems)


def test_facts_of_an_added_data_set_are_imported(judged, tmp_path):
    """As they are."""
    export = shutil.copytree(judged.root.parent / "export", tmp_path / "export")
    rewrite(export, "dataset", replaced("kind", "external"))
    rewrite(export, "dataset", replaced("construction", described({})))
    bring(workspace_at(tmp_path / "store"), export, with_files=False)
    ((facts,),) = ask(workspace_at(tmp_path / "store"), "SELECT construction FROM dataset")
    assert json.loads(facts) == ADDED
