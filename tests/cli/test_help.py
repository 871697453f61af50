"""Help: complete, with examples that run, and quick to come."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import typer

from cli.main import app, run
from tests.cli.calls import call
from tests.elsewhere import nearest_means
from tests.reading import tell

ROOT = Path(__file__).parents[2]
JSDELTA = Path(sys.executable).parent / "jsdelta"
SLOW_TO_IMPORT = {
    "torch",
    "torchvision",
    "mlflow",
    "alembic",
    "pandas",
    "statsmodels",
    "sklearn",
    "matplotlib",
    "scipy",
}

# Examples that would take long as they stand: what is added so that they do not.
SHORTENED = {
    "train --seed 0": ["--members", "3", "--epochs", "3"],  # the tiny store's own: found
    "attack --eps 3": ["--steps", "2", "--images", "20"],
}
ONLY_PARSED = {"quickstart", "ui --port 5000"}
NETS = """
from torch import nn

def make():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
"""


@pytest.fixture
def files_at_hand(tiny, tmp_path, monkeypatch):
    """What the examples name lies in the current folder: samples, a network with its weights, a workspace."""
    import torch

    from jsdelta_db.compute import data

    split = data.load("digits", tmp_path).splits["attack"]
    x, label = split.batch(slice(0, 20)).numpy(), split.labels.numpy()[:20]
    np.savez(tmp_path / "pgd.npz", x=x, x_adv=x, label=label, target_label=(label + 1) % 10)
    np.savez(
        tmp_path / "flowers.npz",
        x=np.arange(60 * 64, dtype=np.int64).reshape(60, 8, 8) % 251,
        y=np.arange(60) % 3,
    )
    (tmp_path / "nets.py").write_text(NETS)
    torch.save(nearest_means(), tmp_path / "mine.pt")
    (tmp_path / "other-workspace").symlink_to(tiny.root)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "nets", raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def uid_at_hand(tiny_copy):
    """The run that the examples name by its uid is in the store."""
    tell(tiny_copy, "UPDATE evaluation SET uid = '3f9c2b7a51e0d864' WHERE id = 1")


def walk(command, words=()):
    """Yield each command's words and the command, groups first."""
    yield words, command
    for name, below in getattr(command, "commands", {}).items():
        yield from walk(below, (*words, name))


COMMANDS = dict(walk(typer.main.get_command(app)))
# What does something when it is called: the leaves, and groups that are commands themselves.
RUNNABLE = {
    words: command
    for words, command in COMMANDS.items()
    if words and (not hasattr(command, "commands") or command.invoke_without_command)
}


def example_of(command):
    """Return the arguments of the example in a command's docstring."""
    (example,) = re.findall(r"^Example: jsdelta (.+)$", command.help or "", flags=re.MULTILINE)
    return example


@pytest.mark.parametrize("words", list(COMMANDS), ids=lambda words: " ".join(words) or "jsdelta")
@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_every_command_has_help(words, flag, capsys):
    """--help prints what the command does and exits with 0."""
    code = run([*words, flag])
    out = capsys.readouterr().out
    first_line = COMMANDS[words].help.splitlines()[0]
    assert code == 0
    assert " ".join(first_line.replace("[bold]", "").split()[:4]) in " ".join(out.split())
    for name in getattr(COMMANDS[words], "commands", ()):
        assert name in out


@pytest.mark.parametrize("words", list(RUNNABLE), ids=" ".join)
def test_every_command_has_an_example_of_itself(words):
    """Each command's help has one example, and it calls that command."""
    assert shlex.split(example_of(RUNNABLE[words]))[: len(words)] == list(words)


@pytest.mark.parametrize(
    "words", [words for words in RUNNABLE if words[0] not in ("quickstart", "ui")], ids=" ".join
)
def test_every_example_runs(words, tiny_copy, files_at_hand, uid_at_hand, capsys):
    """The example of the help works as written (long ones with fewer steps)."""
    example = example_of(RUNNABLE[words])
    code, out, err = call(capsys, tiny_copy, *shlex.split(example), *SHORTENED.get(example, []))
    assert code == 0, err
    assert out


def test_examples_that_are_too_long_to_run_parse():
    """The examples of quickstart and ui name options that exist."""
    examples = {
        example_of(command) for words, command in RUNNABLE.items() if words[0] in ("quickstart", "ui")
    }
    assert examples == ONLY_PARSED
    for example in examples:
        name, *arguments = shlex.split(example)
        RUNNABLE[name,].make_context(name, arguments)


@pytest.mark.parametrize("words", list(RUNNABLE), ids=" ".join)
def test_every_option_says_what_it_does(words):
    """No option or argument is without a help text."""
    silent = [each.name for each in RUNNABLE[words].params if not getattr(each, "help", None)]
    assert silent == []


def test_without_a_command_the_help_is_shown(capsys):
    """Bare jsdelta and bare groups show their help and count as wrong usage."""
    for words in ((), ("query",), ("db",), ("models",), ("ensembles",), ("config",)):
        code = run(list(words))
        captured = capsys.readouterr()
        assert code == 2
        assert "Usage: " in captured.out + captured.err


def test_version(capsys):
    """--version prints name and version."""
    from jsdelta_db import __version__

    assert (run(["--version"]), capsys.readouterr().out) == (0, f"jsdelta {__version__}\n")


def test_readme_names_options_that_exist():
    """Every option in the README is an option of some command."""
    known = {
        option
        for command in COMMANDS.values()
        for each in command.params
        for option in (*each.opts, *each.secondary_opts)
    }
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", (ROOT / "README.md").read_text(encoding="utf-8")))
    assert sorted(named - known - {"--help", "--out"}) == []  # the last is of benchmarks/gpu.py


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["query", "bugs", "--beta", "0.05"],
        ["query", "bugs", "--by", "method", "--format", "json"],
        ["query", "ensembles"],
        ["ensembles", "show", "digits"],
        ["query", "sql", "SELECT count(*) FROM sample_scores"],
        ["config", "show"],
    ],
    ids=" ".join,
)
def test_help_and_queries_import_nothing_slow(arguments, tiny, tmp_path):
    """--help and queries come at once: they load no training, tracking, migration or plotting package."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", JSDELTA, "--workspace", tiny.root, *arguments],
        capture_output=True, text=True, check=True, cwd=tmp_path, env={**os.environ, "PYTHONUTF8": "1"},
    )  # fmt: skip
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if "|" in line}
    assert "typer" in loaded
    assert done.stdout
    assert {name.partition(".")[0] for name in loaded} & SLOW_TO_IMPORT == set()
