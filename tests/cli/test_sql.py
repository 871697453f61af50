"""``jsdelta query sql``, in process."""

import csv
import io
import json

import pytest

from tests.cli.calls import call, parse_markdown, parse_table, refused

ODD = "SELECT NULL AS n, x'00ff' AS b, 1 AS eps, 2 AS eps, 'a|b' AS js, 0.5 AS js_low"
NAMES = ["n", "b", "eps", "eps_2", "js", "js_low"]


def sql(capsys, workspace, *arguments):
    """Ask, and return stdout of an answer."""
    code, out, err = call(capsys, workspace, "query", "sql", *arguments)
    assert (code, err) == (0, "")
    return out


def test_machines_get_values_in_full(tiny, capsys):
    """JSON, JSONL and CSV: null or empty for NULL, hex for a BLOB, a number behind a name that comes again."""
    values = [None, "00ff", 1, 2, "a|b", 0.5]
    assert json.loads(sql(capsys, tiny, ODD, "--format", "json")) == [dict(zip(NAMES, values, strict=True))]
    assert json.loads(sql(capsys, tiny, ODD, "--format", "jsonl")) == dict(zip(NAMES, values, strict=True))
    out = sql(capsys, tiny, ODD, "--format", "csv")
    assert list(csv.reader(io.StringIO(out))) == [NAMES, ["", "00ff", "1", "2", "a|b", "0.5"]]


@pytest.mark.parametrize(("form", "parse"), [("table", parse_table), ("markdown", parse_markdown)])
def test_people_get_every_column_as_it_is(form, parse, tiny, capsys):
    """No column is folded into another one, cut short or taken for an ε."""
    (row,) = parse(sql(capsys, tiny, ODD.replace("a|b", "ab"), "--format", form))
    assert list(row.values()) == ["–", "00ff", "1", "2", "ab", "0.5"]


def test_output_and_no_header(tiny, tmp_path, capsys):
    """-o and --no-header work as for the other questions."""
    assert sql(capsys, tiny, "SELECT 7", "--no-header", "--format", "csv", "-o", str(tmp_path / "x")) == ""
    assert (tmp_path / "x").read_text() == "7\n"
    assert sql(capsys, tiny, "SELECT 7", "--no-header") == "7\n"
    assert sql(capsys, tiny, "SELECT 7 AS x WHERE 0", "--format", "json") == "[]\n"


@pytest.mark.parametrize(
    ("arguments", "code", "fragment"),
    [
        (["SELECT nope FROM score"], 2, "the statement was refused: no such column: nope"),
        (["DELETE FROM score"], 2, "it starts with 'DELETE', and only reading is allowed"),
        (["SELECT 1; SELECT 2"], 2, "one statement at a time"),
        (["SELECT 1", "--timeout", "0"], 2, "'0' is not valid: must be a number of seconds"),
        (["SELECT 1", "--timeout", "nan"], 2, "'nan' is not valid"),
        (["SELECT 1", "--timeout", "soon"], 2, "'soon' is not valid"),
        (["SELECT 1", "--timeout", "1e9"], 2, "'1e9' is not valid"),
        (["SELECT 1", "-o", "no/such/folder"], 2, "cannot be written"),
        ([], 2, "Missing argument"),
        (
            [
                "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x+1 FROM c) SELECT * FROM c",
                "--timeout",
                "0.1",
            ],
            1,
            "stopped after 0.1 s",
        ),
    ],
)
def test_bad_input_is_one_line(arguments, code, fragment, tiny, capsys):
    """What is wrong is said in one line, and nothing is printed as an answer."""
    refused(capsys, tiny, code, fragment, "query", "sql", *arguments)


def test_without_a_store(tmp_path, capsys):
    """Exit 3 and the command that makes one, as for the other questions; nothing is made."""
    refused(capsys, tmp_path / "none", 3, "no store at", "query", "sql", "SELECT 1")
    assert list(tmp_path.iterdir()) == []


def test_help_names_the_view(tiny, capsys):
    """Where to begin is said: the view that reads like the question."""
    _, out, _ = call(capsys, tiny, "query", "sql", "--help")
    assert "sample_scores" in out
