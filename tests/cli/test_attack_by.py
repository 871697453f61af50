"""``jsdelta attack --attack-by``: what is printed, and what is refused in one line."""

import json
import sys

import pytest

from tests import somebodys
from tests.cli.calls import call, parse_table, query, refused
from tests.reading import ask, contents

FEW = ("attack", "--eps", "8", "--images", "12", "--attack-by")
MINE = """
import torch
from torch.nn import functional as F


def fgsm(model, x, label, target_label, eps, norm, factor=1.0):
    probe = x.clone().requires_grad_()
    F.cross_entropy(model(probe), target_label).backward()
    return (x - factor * eps * probe.grad.sign()).clamp(0, 1)
"""


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """A user's file in the current folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "jsdelta_test_mine.py").write_text(MINE)
    yield tmp_path / "jsdelta_test_mine.py"
    sys.modules.pop("jsdelta_test_mine", None)


def test_somebodys_attack_ends_with_the_table_and_its_cost(tiny_copy, mine, capsys):
    """The table is that of any attack; below it stand the passes that an image took."""
    code, out, err = call(capsys, tiny_copy, *FEW, "jsdelta_test_mine:fgsm", "--set", "factor=0.5")
    assert code == 0, err
    assert {row["eps"] for row in parse_table(out)} == {"8/255"}
    assert "eps 8/255: 1 forward and 1 backward passes an image" in err
    assert "beyond eps" not in out + err
    ((by,),) = ask(tiny_copy, "SELECT attack_by FROM attack ORDER BY id DESC LIMIT 1")
    assert json.loads(by)["arguments"] == {"factor": 0.5}
    code, _, err = call(capsys, tiny_copy, *FEW, "jsdelta_test_mine.py:fgsm", "--set", "factor=0.5")
    assert (code, "nothing was done again" in err) == (0, False)  # another name is another attack
    code, _, err = call(capsys, tiny_copy, *FEW, "jsdelta_test_mine:fgsm", "--set", "factor=0.5")
    assert (code, "nothing was done again" in err) == (0, True)


def test_samples_beyond_eps_are_said(tiny_copy, mine, capsys):
    """A column and a note tell how many; JSON has the key in any case."""
    code, out, err = call(capsys, tiny_copy, *FEW, "jsdelta_test_mine:fgsm", "--set", "factor=2")
    assert code == 0, err
    assert "beyond eps 1" in out
    assert "samples lie beyond eps 8/255 and count as failures (--accept-eps)" in err
    rows = query(capsys, tiny_copy, "--by", "library", "--beta", "0.1")
    assert [(row["library"], row["n_outside"] > 0) for row in rows] == [
        ("jsdelta", False), ("jsdelta_test_mine:fgsm", True),
    ]  # fmt: skip
    assert rows[1]["n_success"] == 0


@pytest.mark.parametrize(("name", "says"), somebodys.BAD.items())
def test_a_bad_attack_is_one_line(name, says, tiny_copy, capsys):
    """Exit code 1, the callable's name, what it did; nothing is stored and there is no traceback."""
    before = contents(tiny_copy)
    line = refused(capsys, tiny_copy, 1, f"tests.somebodys:{name}", *FEW, f"tests.somebodys:{name}")
    assert says.removesuffix("$").replace("\\", "") in line
    assert contents(tiny_copy) == before


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ([*FEW, "fgsm"], "must be module:callable"),
        ([*FEW, "tests.somebodys:gone"], "no attribute 'gone'"),
        ([*FEW, "torchattacks:PGD"], "pip install torchattacks"),
        ([*FEW, "tests.somebodys:fgsm", "--steps", "40"], "--set KEY=VALUE"),
        ([*FEW, "tests.somebodys:fgsm", "--set", "factor"], "key=value"),
        (["attack", "--eps", "8", "--set", "factor=1"], "go with --attack-by"),
        (["attack", "--eps", "8", "--accept-eps"], "go with --attack-by"),
    ],
)
def test_a_mistyped_one_is_a_usage_error(options, says, tiny_copy, capsys):
    """Exit code 2, before anything is opened."""
    refused(capsys, tiny_copy, 2, says, *options)
