"""Repeated options: each repeats and means it, or is refused."""

import pytest

from cli.main import run
from tests.cli.calls import query
from tests.cli.test_help import COMMANDS

OPTIONS = [
    (words, option)
    for words, command in COMMANDS.items()
    for option in command.params
    if option.param_type_name == "option" and not option.multiple
]
REPEATABLE = {
    "a",
    "allow",
    "arch",
    "arguments",
    "attack",
    "b",
    "beta",
    "by",
    "dataset",
    "ensemble",
    "eps",
    "evaluators",
    "library",
    "method",
    "models",
    "q",
    "norm",
    "objective",
    "surrogates",
    "values",
    "temperature",
    "where",
    "width",
}


@pytest.mark.parametrize(
    ("words", "option"), OPTIONS, ids=[" ".join((*words, option.name)) for words, option in OPTIONS]
)
def test_an_option_of_one_value_is_refused_when_it_is_given_twice(words, option, capsys):
    """No option of any command replaces its own earlier value without a word: one line, exit 2."""
    value = [] if option.is_flag else ["1"]
    code = run([*words, option.opts[0], *value, option.opts[-1], *value])
    captured = capsys.readouterr()
    assert (code, captured.out, captured.err.count("\n")) == (2, "", 1)
    assert "is given 2 times; give it once; see jsdelta" in captured.err
    assert option.opts[0] in captured.err


def test_both_sides_of_a_switch_are_refused(capsys):
    """--success --all is two answers to one question."""
    assert run(["attack", "export", "-o", "x.npz", "--success", "--all"]) == 2
    assert "--success/--all is given 2 times" in capsys.readouterr().err


def test_the_options_that_repeat_are_those_that_take_several():
    """What repeats is a list of values, by name."""
    found = {option.name for command in COMMANDS.values() for option in command.params if option.multiple}
    assert found == REPEATABLE


def test_a_repeated_by_adds_its_keys(tiny, capsys):
    """--by x --by y groups as --by x,y."""
    rows = query(capsys, tiny, "--by", "eps", "--by", "method")
    assert rows == query(capsys, tiny, "--by", "eps,method")
    assert len({row["eps"] for row in rows}) == 2
