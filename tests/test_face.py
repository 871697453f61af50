"""The face of the package: the verbs that a notebook calls."""

import numpy as np
import pytest

import jsdelta_db
from jsdelta_db.errors import UsageError
from jsdelta_db.pipeline.evaluation.work import Judged
from tests.reading import ask
from tests.workspaces import copy_of


def test_the_face_lists_its_verbs():
    """These names are what users import; taking one away breaks their notebooks."""
    assert jsdelta_db.__all__ == ["Verdict", "attack", "judge", "open_workspace", "score", "train"]
    for name in jsdelta_db.__all__:
        assert getattr(jsdelta_db, name).__doc__
    assert "Example::" in "".join(getattr(jsdelta_db, name).__doc__ for name in ("train", "attack", "score"))


def test_the_verbs_find_what_the_commands_made(tiny, tmp_path):
    """Training, attacking and scoring from Python use the same store as the commands."""
    workspace, recipe = copy_of(tiny, tmp_path / "copy"), tmp_path / "quick.toml"
    recipe.write_text('dataset = "digits"\narch = "cnn-small"\nepochs = 1\n')
    with jsdelta_db.open_workspace(workspace.root, data_dir=workspace.data_dir) as bench:
        pair = jsdelta_db.train(bench, str(recipe), members=1, name="alone")
        done = jsdelta_db.attack(bench, 5 / 255, ensemble="digits", steps=2, images=12)
        again = jsdelta_db.score(bench, done.attacks[0], temperature="fit")
    assert [member.seed for member in pair.members] == [0]
    assert isinstance(again, Judged)
    assert again.attacks == done.attacks
    assert ask(workspace, "SELECT eps, steps FROM attack WHERE uid = ?", done.attacks[0]) == [(5 / 255, 2)]
    rules = ask(workspace, "SELECT temperature_rule FROM evaluation ORDER BY id DESC LIMIT 2")
    assert rules == [("fit",), ("1",)]


def test_radii_are_numbers_of_any_kind_and_at_least_one(tiny, tmp_path):
    """NumPy's numbers are radii, the same one twice is one attack, and none at all is one line."""
    workspace = copy_of(tiny, tmp_path / "copy")
    with jsdelta_db.open_workspace(workspace.root, data_dir=workspace.data_dir) as bench:
        with pytest.raises(UsageError, match="eps is empty: must be one radius or more"):
            jsdelta_db.attack(bench, [])
        once = jsdelta_db.attack(bench, np.float32(0.1), ensemble="digits", steps=2, images=12)
        twice = jsdelta_db.attack(bench, [0.1, 0.1], ensemble="digits", steps=2, images=12)
    assert [len(once.attacks), len(twice.attacks)] == [1, 1]


def test_an_unknown_name_is_an_attribute_error():
    """A misspelt verb fails like in any module."""
    assert not hasattr(jsdelta_db, "attck")
