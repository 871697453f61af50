"""``jsdelta ensembles``: made of models, listed and shown from the command line, in process."""

import json

import pytest

from tests.cli.calls import call, parse_table, query_json, refused, words
from tests.reading import ask, contents

ADD = ["ensembles", "add", "both", "--models", "digits:2", "--models", "digits:0"]


def test_add_prints_the_ensemble_and_what_to_do_with_it(tiny_copy, capsys):
    """The first call adds, the second finds; the next command stands below and runs."""
    for state in ("added", "found"):
        code, out, err = call(capsys, tiny_copy, *ADD)
        assert code == 0, err
        (row,) = parse_table(out)
        assert (row["name"], row["members"], row["state"]) == ("both", "2", state)
        assert "jsdelta attack --eps 3 --ensemble both" in err
    assert ask(tiny_copy, "SELECT uid FROM ensemble WHERE name = 'both'") == [(row["uid"],)]
    code, _, err = call(
        capsys, tiny_copy, "attack", "--eps", "3", "--steps", "1", "--images", "10", "--ensemble", "both"
    )
    assert code == 0, err


def test_list_has_the_rows_of_query_ensembles(tiny, capsys):
    """One table under two names."""
    rows, _ = query_json(capsys, tiny, "ensembles")
    code, out, err = call(capsys, tiny, "ensembles", "list", "--format", "json")
    assert (code, err) == (0, "")
    assert json.loads(out) == rows


def test_show_lists_the_members_in_their_order(tiny_copy, capsys):
    """Each member is a row; the ensemble stands above them for people, and in each row for machines."""
    assert call(capsys, tiny_copy, *ADD)[0] == 0
    code, out, _ = call(capsys, tiny_copy, "ensembles", "show", "both", "--format", "json")
    rows = json.loads(out)
    assert code == 0
    assert list(rows[0]) == [
        "ensemble", "uid", "dataset", "position", "model", "name", "seed", "architecture", "method",
        "clean_accuracy", "sharpness",
    ]  # fmt: skip
    assert [(row["ensemble"], row["dataset"], row["position"], row["seed"]) for row in rows] == [
        ("both", "digits", 0, 2), ("both", "digits", 1, 0),
    ]  # fmt: skip
    code, out, _ = call(capsys, tiny_copy, "ensembles", "show", rows[0]["uid"][:6])
    assert code == 0
    assert out.startswith("ensemble both, uid ")


@pytest.mark.parametrize(
    ("arguments", "fragment"),
    [
        (["show", "nobody"], "unknown ensemble 'nobody'; there is: digits"),
        (["add", "both"], "Missing option '--models'"),
        (["add", "both", "--models", "digits:0"], "--models names 1 model: must be 2 or more"),
        (["add", "digits", "--models", "digits:1,0"], "there is another ensemble 'digits'"),
        (["add", "both", "--models", "digits:7", "--models", "digits:0"], "'7' names no members of 'digits'"),
    ],
    ids=words,
)
def test_what_cannot_be_made_or_shown_is_one_line(arguments, fragment, tiny_copy, capsys):
    """Each slip is one line with exit code 2, and nothing is stored."""
    before = contents(tiny_copy)
    refused(capsys, tiny_copy, 2, fragment, "ensembles", *arguments)
    assert contents(tiny_copy) == before


def test_without_a_store(tmp_path, capsys):
    """There is nothing to put together: exit 3, and nothing is made."""
    refused(capsys, tmp_path / "none", 3, "jsdelta train", *ADD)
    assert list(tmp_path.iterdir()) == []
