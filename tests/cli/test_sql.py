"""``jsdelta query sql``, in process."""

import csv
import io
import json

import numpy as np
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


def test_parameters_are_bound(tiny, capsys):
    """:name takes -p name=value: a number if it reads like one; none is missing, none too many."""
    ask = "SELECT count(*) AS n FROM attack WHERE eps > :eps AND norm = :norm AND ':x' <> 'a'"
    out = sql(capsys, tiny, ask, "-p", "eps=0.02", "-p", "norm=linf", "--format", "json")
    assert json.loads(out) == [{"n": 1}]
    refused(capsys, tiny, 2, "has :norm, which has no value", "query", "sql", ask, "-p", "eps=1")
    refused(capsys, tiny, 2, "-p y: the statement has no :y; its parameters are: none",
            "query", "sql", "SELECT 1", "-p", "y=1")  # fmt: skip
    for wrong in ("y", "=1", "a-b=1"):
        refused(capsys, tiny, 2, "must be NAME=VALUE", "query", "sql", "SELECT :y", "-p", wrong)
    refused(capsys, tiny, 2, "-p y is given twice", "query", "sql", "SELECT :y", "-p", "y=1", "-p", "y=2")


@pytest.mark.parametrize(
    ("text", "value", "kind"),
    [
        ("12", 12, "integer"), ("-0.5", -0.5, "real"), (".5", 0.5, "real"), ("+1e-2", 0.01, "real"),
        ("-9223372036854775808", -(2**63), "integer"), ("007", "007", "text"), ("1_000", "1_000", "text"),
        ("nan", "nan", "text"), ("inf", "inf", "text"), ("٣", "٣", "text"), ("", "", "text"),
        ("'12'", "12", "text"), ("''", "", "text"), ("'", "'", "text"), ("a=b", "a=b", "text"),
    ],
)  # fmt: skip
def test_a_value_is_a_number_if_it_is_written_like_one(text, value, kind, tiny, capsys):
    """What may be a name or a uid stays text, and quotes make text of anything."""
    out = sql(capsys, tiny, "SELECT :x AS x, typeof(:x) AS kind", "-p", f"x={text}", "--format", "json")
    assert json.loads(out) == [{"x": value, "kind": kind}]


@pytest.mark.parametrize("text", [str(2**63), "-" + "9" * 5000])
def test_a_number_beyond_64_bits_is_refused(text, tiny, capsys):
    """Neither engine has such a number: the line says how to write text."""
    refused(capsys, tiny, 2, "is beyond 64 bits; write -p", "query", "sql", "SELECT :x", "-p", f"x={text}")


def test_median_and_quantile_are_those_of_numpy(tiny, capsys):
    """Interpolated between two values; NULLs do not count, and none at all is NULL."""
    values = "(SELECT 1 AS x UNION ALL SELECT 4 UNION ALL SELECT NULL UNION ALL SELECT 2 UNION ALL SELECT 9)"
    asked = f"SELECT median(x) AS m, quantile(x, 0.9) AS q FROM {values}"
    (row,) = json.loads(sql(capsys, tiny, asked, "--format", "json"))
    assert row == {"m": np.median([1, 4, 2, 9]), "q": pytest.approx(np.quantile([1, 4, 2, 9], 0.9))}
    out = sql(capsys, tiny, "SELECT median(js_delta) AS m FROM score WHERE 0", "--format", "json")
    assert json.loads(out) == [{"m": None}]
    for share in ("2", "-0.1", "'a'", "NULL"):
        ask = f"SELECT quantile(1, {share})"
        refused(capsys, tiny, 2, "q must be a number from 0 to 1", "query", "sql", ask)
    endless = "SELECT median(x) AS m FROM (SELECT 1 AS x UNION ALL SELECT 9e999 UNION ALL SELECT 9e999)"
    assert json.loads(sql(capsys, tiny, endless, "--format", "json")) == [{"m": "inf"}]


@pytest.mark.parametrize("engine", ["sqlite", "postgresql"])
def test_what_is_missing_is_answered_with_what_there_is(engine, tiny, request, monkeypatch, capsys):
    """An unknown column names those of its table, an unknown table the tables; both engines bind values."""
    if engine == "postgresql":
        monkeypatch.setenv("JSDELTA_DB_URL", request.getfixturevalue("postgres_url"))
        assert call(capsys, tiny, "db", "upgrade")[0] == 0
    line = refused(capsys, tiny, 2, "nope", "query", "sql", "SELECT nope FROM sample_scores")
    assert "there is: columns of sample_scores: dataset, method" in line
    assert "tables: " in refused(capsys, tiny, 2, "nope", "query", "sql", "SELECT 1 FROM nope")
    out = sql(capsys, tiny, "SELECT '10%' AS share, :x AS x", "-p", "x=a:b%", "--format", "json")
    assert json.loads(out) == [{"share": "10%", "x": "a:b%"}]
    listed = json.loads(call(capsys, tiny, "db", "schema", "--format", "json")[1])
    assert {"kind": "view", "table": "sample_scores", "column": "dataset"}.items() <= listed[0].items()
