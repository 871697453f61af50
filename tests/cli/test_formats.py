"""Output formats: every listing command writes the same rows in each of them."""

import csv
import io
import json
import re

import pyarrow.parquet as pq
import pytest

from cli.output import write_rows
from cli.printing import ENDINGS, Output
from tests.cli.calls import call, parse_markdown, refused

LISTING = [
    ["query", "bugs"], ["query", "samples"], ["query", "transfer"], ["query", "ensembles"],
    ["query", "sql", "SELECT uid, eps, attack_by FROM attack"], ["models", "list"], ["dataset", "list"],
    ["ensembles", "list"], ["recipes", "list"], ["db", "stats"], ["config", "show"], ["db", "schema"],
    ["query", "attacks"],
]  # fmt: skip
NASTY = [
    'a, "b"', "back\\slash & 50 % of_#1 $x$ {y} ~z^", "Ärger|naïve – Δε", "\x1b[31mred\nline", "[1] <tag>",
]  # fmt: skip


@pytest.mark.parametrize("command", LISTING, ids=" ".join)
def test_every_format_has_the_rows_of_json(command, tiny, tmp_path, capsys):
    """Machine formats agree to the last digit; formats for people have a line for each row."""
    _, out, _ = call(capsys, tiny, *command, "--format", "json")
    rows = json.loads(out)
    assert rows
    for ending in ENDINGS:
        file = tmp_path / f"rows{ending}"
        code, out, _ = call(capsys, tiny, *command, "-o", str(file))
        assert (code, out) == (0, ""), command
    if command != ["db", "stats"]:  # whose bytes grow while it looks
        assert json.loads((tmp_path / "rows.json").read_text()) == rows
        lines = (tmp_path / "rows.jsonl").read_text().splitlines()
        assert [json.loads(line) for line in lines] == rows
        assert pq.read_table(tmp_path / "rows.parquet").to_pylist() == _as_columns(rows)
        found = list(csv.DictReader(io.StringIO((tmp_path / "rows.csv").read_text())))
        assert found == [{k: "" if v is None else str(v) for k, v in row.items()} for row in rows]
    assert len(parse_markdown((tmp_path / "rows.md").read_text())) == len(rows)
    assert (tmp_path / "rows.tex").read_text().count(r"\\") == len(rows) + 1


def _as_columns(rows):
    """Rows as Parquet has them: a column of numbers and texts is text."""
    mixed = {
        key for key in rows[0] if len({type(row[key]) for row in rows} - {type(None), int, float}) > 0
        and len({type(row[key]) for row in rows} - {type(None)}) > 1
    }  # fmt: skip
    return [
        {key: str(value) if key in mixed and value is not None else value for key, value in row.items()}
        for row in rows
    ]


def test_odd_text_survives_every_format(tmp_path):
    """Machines get the exact text; TeX and terminals get nothing that they would obey."""
    rows = [{"name": text, "value": number / 3} for number, text in enumerate(NASTY)]
    for ending in ENDINGS:
        write_rows(rows, ("name", "value"), Output(path=tmp_path / f"rows{ending}"))
    assert json.loads((tmp_path / "rows.json").read_text()) == rows
    assert pq.read_table(tmp_path / "rows.parquet").to_pylist() == rows
    with (tmp_path / "rows.csv").open(newline="") as file:
        assert [row["name"] for row in csv.DictReader(file)] == NASTY
    for ending in (".txt", ".md", ".tex"):
        text = (tmp_path / f"rows{ending}").read_text()
        assert "\x1b" not in text
        assert "\nline" not in text
    tex = (tmp_path / "rows.tex").read_text()
    assert (
        r"back\textbackslash{}slash \& 50 \% of\_\#1 \$x\$ \{y\} \textasciitilde{}z\textasciicircum{}" in tex
    )
    plain = re.sub(r"\\[{}$&#_%]", "", tex)
    assert plain.count("{") == plain.count("}")
    assert not re.search(r"(?<!\\)[#_%]", tex)
    assert tex.startswith("\\begin{tabular}{lr}\n\\toprule\nname & value \\\\\n\\midrule\n")


def test_the_ending_says_the_format_and_nothing_is_overwritten(tiny, tmp_path, capsys):
    """A contradiction, an unknown ending and a file that is there are refused before any work."""
    file = tmp_path / "bugs.csv"
    assert call(capsys, tiny, "query", "bugs", "-o", str(file))[0] == 0
    before = file.read_bytes()
    refused(capsys, tiny, 2, "is there already: add --force to replace it", "query", "bugs", "-o", file)
    assert file.read_bytes() == before
    assert call(capsys, tiny, "query", "bugs", "--beta", "0.2", "-o", str(file), "--force")[0] == 0
    assert file.read_bytes() != before
    contradiction = ["--format", "json", "-o", tmp_path / "x.csv"]
    refused(capsys, tiny, 2, ".csv is csv; change one of them", "query", "bugs", *contradiction)
    refused(capsys, tiny, 2, "ends in '.docx': must end in .txt, .csv", "models", "list", "-o", "x.docx")
    refused(capsys, tiny, 2, "'yaml' is not one of", "models", "list", "--format", "yaml")
    assert call(capsys, tiny, "models", "list", "--format", "csv", "-o", str(tmp_path / "x.dat"))[0] == 0
