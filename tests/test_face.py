"""The face of the package: the verbs that a notebook calls."""

import numpy as np
import pytest
import torch

import jsdelta_db
from jsdelta_db.compute import data
from jsdelta_db.errors import JsdeltaError, StoreNotReadyError, UsageError
from jsdelta_db.pipeline.evaluation.finished import Judged
from jsdelta_db.workbench.workbench import Workbench
from tests.reading import ask
from tests.workspaces import copy_of


def test_the_face_lists_its_verbs():
    """These names are what users import; taking one away breaks their notebooks."""
    verbs = ["Verdict", "Workspace", "attack", "judge", "open_workspace", "score", "train"]
    assert jsdelta_db.__all__ == verbs
    assert dir(jsdelta_db) == sorted([*verbs, "__version__"])
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


X, LABEL = np.full((2, 1, 8, 8), 0.5, dtype=np.float32), np.array([0, 1])


def test_judge_makes_no_store(tmp_path):
    """A workspace that is not there is mistyped: nothing is made."""
    with pytest.raises(StoreNotReadyError, match="no store at"):
        jsdelta_db.judge(X, X, LABEL, workspace=tmp_path / "typo")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"x_adv": [None, X[0]]}, "x_adv .*must be numbers"),
        ({"label": None}, "label .*must be numbers"),
        ({"evaluators": 3}, r"evaluators 3 is not valid: must be a list of references"),
        ({"evaluators": [None]}, r"evaluators \[None\] is not valid"),
        ({"evaluators": b"digits"}, "evaluators b'digits' is not valid"),
        ({"attacked": 0.5}, "attacked 0.5 is not valid: must be first, all, a seed or a model"),
        ({"ensemble": 3}, "ensemble 3 is not valid: must be a name"),
        ({"library": None}, "library None is not valid: must be text"),
        ({"norm": ["l2"]}, "norm .* is not valid: must be text"),
        ({"temperature": None}, "--temperature 'None' is not valid: must be 1 or fit"),
        ({"workspace": 3}, "workspace 3 is not valid: must be a folder's path"),
    ],
    ids=str,
)
def test_judge_refuses_what_is_none(given, message):
    """Whatever a notebook hands over is taken or refused in one line, before a store is opened."""
    with pytest.raises(JsdeltaError, match=message) as raised:
        jsdelta_db.judge(**{"x": X, "x_adv": X, "label": LABEL, **given})
    assert "\n" not in str(raised.value)


def test_judge_takes_one_set_by_its_name_and_warns_of_doubts(tiny_copy):
    """A single text is one reference; images that every model has seen are judged with a warning."""
    train = data.load("digits", tiny_copy.data_dir).splits["train"]
    x, label = train.batch(slice(0, 20)).requires_grad_(), train.labels[:20]
    with pytest.warns(
        UserWarning, match="x_adv is x|all 20 images are of the train split, which every"
    ) as told:
        verdict = jsdelta_db.judge(
            x, x * 1.0, label, attacked=0, evaluators="digits:1,2", temperature=1, workspace=tiny_copy.root
        )
    assert ask(tiny_copy, "SELECT count(*) FROM evaluation_member WHERE evaluation_id = 3") == [(2,)]
    assert len(told) == 2
    ((eps,),) = ask(tiny_copy, "SELECT eps FROM attack WHERE id = 3")
    assert verdict.measured.eps == eps


@pytest.mark.parametrize("workspace", ["digits", None])
def test_verbs_need_a_workspace(workspace):
    """A workspace's name is no workspace."""
    for call in (jsdelta_db.train, jsdelta_db.attack, jsdelta_db.score):
        with pytest.raises(UsageError, match=r"is not one: must come from jsdelta_db.open_workspace"):
            call(workspace, *([] if call is jsdelta_db.train else ["x"]))


@pytest.mark.parametrize("folder", [3, b"x", [], 0])
def test_a_folder_is_a_path(folder):
    """What is no path is refused by name."""
    with pytest.raises(UsageError, match=r"folder .* is not valid: must be a folder's path"):
        jsdelta_db.open_workspace(folder)


BAD_CALLS = [
    ("attack", {"eps": "8/255"}, "eps '8/255' is not valid: must be one radius or more"),
    ("attack", {"eps": None}, "eps None is not valid"),
    ("attack", {"eps": [0.1, None]}, r"eps \[0.1, None\] is not valid"),
    ("attack", {"eps": True}, "eps True is not valid"),
    ("attack", {"eps": np.nan}, r"eps nan is not valid: must be a number in \(0, 1\]"),
    ("attack", {"eps": torch.tensor([-1.0])}, "eps -1.0 is not valid"),
    ("attack", {"steps": "10"}, "steps '10' is not valid: must be a whole number"),
    ("attack", {"images": 2.5}, "images 2.5 is not valid: must be a whole number or None"),
    ("attack", {"random_start": 1}, "random_start 1 is not valid: must be True or False"),
    ("attack", {"norm": None}, "norm None is not valid: must be text"),
    ("attack", {"step": 10}, "unknown setting 'step'; there is: steps, targets"),
    ("attack", {"surrogates": 3}, "surrogates 3 is not valid"),
    ("train", {"recipe": 3}, "recipe 3 is not valid: must be a recipe's name"),
    ("train", {"members": 2.5}, "members 2.5 is not valid: must be a whole number from 1"),
    ("train", {"seed": -1}, "seed -1 is not valid: must be a whole number from 0"),
    ("train", {"jobs": None}, "jobs None is not valid: must be a whole number from 1"),
    ("train", {"name": 3}, "name 3 is not valid: must be a name"),
    ("score", {"attacks": None}, "attacks None is not valid"),
    ("score", {"attacks": []}, r"attacks \[\] is not valid: must be one uid or more"),
    ("score", {"evaluators": [2.5]}, r"evaluators \[2.5\] is not valid"),
    ("score", {"device": "tpu"}, "device 'tpu' is not valid: must be auto, cpu, cuda or cuda:N"),
    ("score", {"device": None}, "device None is not valid"),
    ("score", {"temperature": 2}, "--temperature '2' is not valid"),
]


@pytest.mark.parametrize(("verb", "given", "message"), BAD_CALLS, ids=str)
def test_verbs_refuse_what_is_none(verb, given, message):
    """Each value of a wrong kind is one line that names it, before any work."""
    opened = Workbench(None, None, None, None)
    defaults = {"train": {}, "attack": {"eps": 0.1}, "score": {"attacks": "abcd"}}[verb]
    with pytest.raises(JsdeltaError, match=message) as raised:
        getattr(jsdelta_db, verb)(opened, **{**defaults, **given})
    assert "\n" not in str(raised.value)


def test_an_unknown_name_is_an_attribute_error():
    """A misspelt verb fails like in any module."""
    assert not hasattr(jsdelta_db, "attck")
