"""``jsdelta db delete``, in process on a copy of the tiny store."""

import sys

import pytest
import typer

from tests.cli.calls import call, parse_table, refused
from tests.reading import ask, tell


@pytest.fixture
def member(tiny_copy):
    """The uid of a member that judged."""
    return ask(tiny_copy, "SELECT uid FROM model WHERE seed = 1")[0][0]


@pytest.fixture
def evaluation(tiny_copy):
    """The uid of an evaluation."""
    return ask(tiny_copy, "SELECT uid FROM evaluation WHERE id = 1")[0][0]


def count(workspace, table):
    return ask(workspace, f"SELECT count(*) FROM {table}")[0][0]


def test_evaluation_is_deleted(tiny_copy, evaluation, capsys):
    """What nothing needs goes at once: listed on stdout, summed up on stderr, and the store holds together."""
    code, out, err = call(capsys, tiny_copy, "db", "delete", evaluation[:8])
    (row,) = parse_table(out)
    assert (code, row["kind"], row["uid"]) == (0, "evaluation", evaluation)
    assert err == f"deleted: {row['rows']} rows, 1 files, 0 MLflow runs\n"
    assert count(tiny_copy, "evaluation") == 1
    assert call(capsys, tiny_copy, "db", "check")[:2] == (0, "ok\n")


def test_what_is_needed_is_refused(tiny_copy, member, capsys):
    """Exit 1, and one line that lists what needs it."""
    needed = f"model {member} (digits seed 1) is needed by ensemble "
    err = refused(capsys, tiny_copy, 1, needed, "db", "delete", member)
    assert "(digits), evaluation " in err
    assert "--cascade" in err
    assert count(tiny_copy, "model") == 3


def test_cascade_without_a_terminal_lists_and_refuses(tiny_copy, member, capsys, monkeypatch):
    """Nobody can say yes: the list comes, then one line, and nothing goes."""
    monkeypatch.setattr(sys.stdin, "isatty", lambda: False)
    code, out, err = call(capsys, tiny_copy, "db", "delete", member, "--cascade")
    assert [row["kind"] for row in parse_table(out)] == ["model", "ensemble", "evaluation", "evaluation"]
    assert (code, len(err.splitlines())) == (2, 1)
    assert "add --yes" in err
    assert count(tiny_copy, "model") == 3


@pytest.mark.parametrize(("answer", "code", "left"), [(True, 0, 2), (False, 1, 3)])
def test_cascade_asks(answer, code, left, tiny_copy, member, capsys, monkeypatch):
    """On a terminal the list comes first; no is the default, and deletes nothing."""
    asked = []

    def confirm(question, *, default, err):
        asked.append((question, default, err))
        return answer

    monkeypatch.setattr(sys.stdin, "isatty", lambda: True)
    monkeypatch.setattr(typer, "confirm", confirm)
    found, out, err = call(capsys, tiny_copy, "db", "delete", member, "--cascade")
    assert (found, asked) == (code, [("Delete all 4?", False, True)])
    assert len(parse_table(out)) == 4
    assert ("nothing was deleted" in err) is not answer
    assert count(tiny_copy, "model") == left


def test_yes_asks_nothing(tiny_copy, member, capsys, monkeypatch):
    """--yes is for scripts."""
    monkeypatch.setattr(typer, "confirm", None)
    code, _, err = call(capsys, tiny_copy, "db", "delete", member, "--cascade", "--yes")
    assert code == 0
    assert err.endswith("2 MLflow runs\n")
    assert (count(tiny_copy, "model"), count(tiny_copy, "score")) == (2, 0)
    assert call(capsys, tiny_copy, "db", "check")[:2] == (0, "ok\n")


def test_nothing_is_deleted_under_a_live_process(tiny_copy, member, capsys):
    """A chunk in the hands of a live process: refused, even with --yes."""
    from jsdelta_db.runtime.leases import current_owner

    running = "UPDATE evaluation_chunk SET status = 'running', owner = ? WHERE evaluation_id = 1"
    tell(tiny_copy, running, current_owner())
    code, out, err = call(capsys, tiny_copy, "db", "delete", member, "--cascade", "--yes")
    assert (code, out) == (1, "")
    assert "works on evaluation" in err


@pytest.mark.parametrize(
    ("arguments", "code", "fragment"),
    [
        (["abc"], 2, "uid 'abc' is too short"),
        (["0000000000000000"], 2, "has a uid that starts with '0000000000000000'"),
        (["%%%%"], 2, "has a uid that starts with '%%%%'"),
        ([], 2, "Missing argument"),
    ],
)
def test_bad_input_is_one_line(arguments, code, fragment, tiny, capsys):
    """What names nothing is said in one line."""
    refused(capsys, tiny, code, fragment, "db", "delete", *arguments)


def test_without_a_store_none_is_made(tmp_path, capsys):
    """Deleting needs a store, and makes none."""
    refused(capsys, tmp_path / "none", 3, "no store at", "db", "delete", "abcd")
    assert list(tmp_path.iterdir()) == []
