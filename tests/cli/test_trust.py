"""Code that rows name runs only with consent, and never ends the program."""

import sys

import pytest
import torch

import jsdelta_db
from jsdelta_db.compute.data import load
from jsdelta_db.config import consent
from jsdelta_db.errors import CodeError
from tests.cli.calls import call, refused
from tests.elsewhere import nearest_means

NETS = """
from pathlib import Path
from tests.elsewhere import linear

Path("ran").touch()


def make(num_classes, in_channels, image_size):
    return linear(num_classes, in_channels, image_size)


def leaves(num_classes):
    raise SystemExit(0)
"""
ATTACK = (
    "attack",
    "--eps",
    "5",
    "--images",
    "12",
    "--steps",
    "1",
    "--evaluators",
    "theirs",
    "--evaluators",
    "1",
)


@pytest.fixture
def code(tiny_copy, tmp_path, monkeypatch):
    """A folder that one stands in, with a network's code in it and its weights; nobody agreed to anything."""
    folder = tmp_path / "code"
    folder.mkdir()
    (folder / "jsdelta_test_nets.py").write_text(NETS)
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", list(sys.path))
    become(tmp_path / "me", monkeypatch)
    torch.save(nearest_means(), folder / "theirs.pt")
    return folder


def become(config, monkeypatch):
    """Go on as a user with this folder of settings, in a new process."""
    monkeypatch.setenv("JSDELTA_CONFIG_DIR", str(config))
    consent._GIVEN.clear()
    sys.modules.pop("jsdelta_test_nets", None)


def add(capsys, workspace, factory="jsdelta_test_nets:make"):
    """Add the model; return what the command says."""
    return call(
        capsys, workspace, "models", "add", "theirs", "--factory", factory, "--checkpoint", "theirs.pt",
        "--dataset", "digits",
    )  # fmt: skip


def test_a_store_from_somebody_else_runs_no_code_unasked(code, tiny_copy, tmp_path, monkeypatch, capsys):
    """Whoever typed the name goes on; another user is asked once, before anything runs, and again when it changed."""
    assert add(capsys, tiny_copy)[0] == 0
    assert call(capsys, tiny_copy, *ATTACK)[0] == 0  # typing it was consent
    (code / "ran").unlink()
    become(tmp_path / "other", monkeypatch)
    again = (*ATTACK, "--eps", "6")
    said = refused(capsys, tiny_copy, 2, "jsdelta_test_nets:make", *again)
    assert str(code / "jsdelta_test_nets.py") in said
    assert "--trust-code" in said
    assert not (code / "ran").exists()
    code_, _, err = call(capsys, tiny_copy, *again, "--trust-code")
    assert code_ == 0, err
    assert (code / "ran").exists()
    become(tmp_path / "other", monkeypatch)
    (code / "jsdelta_test_nets.py").write_text(NETS + "# changed\n")
    (code / "ran").unlink()
    refused(capsys, tiny_copy, 2, "has changed since you agreed to run it", *ATTACK, "--eps", "7")
    assert not (code / "ran").exists()


def test_judging_from_python_asks_for_consent_too(code, tiny_copy, tmp_path, monkeypatch, capsys):
    """``judge`` runs no code that only a row names, unless ``trust_code`` says so."""
    assert add(capsys, tiny_copy)[0] == 0
    (code / "ran").unlink()
    become(tmp_path / "other", monkeypatch)
    split = load("digits", tiny_copy.data_dir).splits["attack"]
    x, label = split.batch(slice(0, 12)), split.labels[:12]
    arguments = {"attacked": "theirs", "evaluators": "digits", "workspace": tiny_copy.root}
    with pytest.raises(CodeError, match="add --trust-code to run it"):
        jsdelta_db.judge(x, x.flip(-1), label, **arguments)
    assert not (code / "ran").exists()
    verdict = jsdelta_db.judge(x, x.flip(-1), label, **arguments, trust_code=True)
    assert (code / "ran").exists()
    assert verdict.was_right.any()


@pytest.mark.parametrize(
    ("factory", "exit_code", "fragment"),
    [
        ("builtins:exit", 2, "is a Quitter: must be a Python function or class"),
        ("os:_exit", 2, "is a builtin_function_or_method: must be a Python function or class"),
        ("sys:exit", 2, "must be a Python function or class"),
        ("builtins:SystemExit", 1, "SystemExit() takes no keyword arguments"),
        ("jsdelta_test_nets:leaves", 1, "could not build the model: SystemExit: 0"),
        ("jsdelta_test_leaving:make", 2, "cannot be imported (SystemExit: 0)"),
    ],
)
def test_what_ends_the_program_is_an_error(factory, exit_code, fragment, code, tiny_copy, capsys):
    """A factory or a module that leaves Python, or would, is refused in one line; never exit 0."""
    (code / "jsdelta_test_leaving.py").write_text("raise SystemExit(0)\n")
    found, out, err = add(capsys, tiny_copy, factory)
    assert (found, out, err.count("\n")) == (exit_code, "", 1), err
    assert fragment in err
    refused(capsys, tiny_copy, 2 if exit_code == 2 else 1, "", "train", "--arch", factory, "--epochs", "1")


def test_a_network_that_ends_the_program_in_the_middle_is_an_error(tiny, monkeypatch, capsys):
    """SystemExit from wherever it comes is not this program's end: exit 1 and a line."""

    def leave(*given, **named):
        raise SystemExit(0)

    monkeypatch.setattr("jsdelta_db.pipeline.attack.attack_and_score", leave)
    refused(capsys, tiny, 1, "ended the program (SystemExit: 0)", "attack", "--eps", "3")


@pytest.mark.slow
def test_processes_side_by_side_train_what_was_typed(code, workspace, tmp_path, capsys):
    """Workers import what the command's line named, and the ensemble is measured and attacked without more questions."""
    train = ("train", "--arch", "jsdelta_test_nets:make", "--members", "3", "--epochs", "1", "--name", "own")
    exit_code, _, err = call(capsys, workspace, *train, "--jobs", "2")
    assert exit_code == 0, err
    exit_code, _, err = call(capsys, workspace, "attack", "--eps", "5", "--images", "12", "--steps", "1")
    assert exit_code == 0, err
