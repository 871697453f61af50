"""Output formats: every listing command writes the same rows in each of them."""

import csv
import io
import json
import re

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cli.output import write_rows
from cli.printing import ENDINGS, STDOUT, Format, Output
from jsdelta_db.runtime.escaping import LONGEST_CELL, escape
from tests.cli.calls import call, parse_markdown, refused
from tests.cli.test_help import COMMANDS
from tests.reading import ask

LISTING = [
    ["query", "bugs"], ["query", "samples"], ["query", "transfer"], ["query", "ensembles"],
    ["query", "sensitivity"], ["query", "stability"], ["query", "controls"], ["query", "assumptions"],
    ["query", "keys"], ["query", "outcomes"], ["query", "compare", "--by", "eps", "--baseline", "3"], ["query", "pairs"],
    ["query", "histogram", "--bins", "3"], ["query", "quantiles"], ["query", "attacks"],
    ["query", "sql", "SELECT uid, eps, attack_by FROM attack"], ["models", "list"], ["dataset", "list"],
    ["ensembles", "list"], ["ensembles", "show", "digits"], ["recipes", "list"], ["db", "stats"],
    ["db", "schema"], ["config", "show"], ["doctor"], ["attacks", "show"],
]  # fmt: skip
WRITING = {("db", "import")}  # prints rows of what it has done
CHANGING = (["db", "stats"], ["doctor"])  # whose bytes grow while they look
EMPTY = (["query", "stability"],)  # the tiny store's attacks did not measure it
NASTY = [
    'a, "b"', "back\\slash & 50 % of_#1 $x$ {y} ~z^", "Ärger|naïve – Δε", "\x1b[31mred\nline", "[1] <tag>",
]  # fmt: skip


@pytest.mark.parametrize("command", LISTING, ids=" ".join)
def test_every_format_has_the_rows_of_json(command, tiny, tmp_path, capsys):
    """Machine formats agree to the last digit; formats for people have a line for each row."""
    is_of_one = command == ["attacks", "show"]
    if is_of_one:
        command = [*command, ask(tiny, "SELECT uid FROM attack")[0][0]]
    _, out, _ = call(capsys, tiny, *command, "--format", "json")
    rows = json.loads(out)
    assert bool(rows) is (command not in EMPTY)
    for ending in ENDINGS:
        file = tmp_path / f"rows{ending}"
        code, out, _ = call(capsys, tiny, *command, "-o", str(file))
        assert (code, out) == (0, ""), command
    if command not in CHANGING:
        assert json.loads((tmp_path / "rows.json").read_text()) == rows
        lines = (tmp_path / "rows.jsonl").read_text().splitlines()
        assert [json.loads(line) for line in lines] == rows
        assert pq.read_table(tmp_path / "rows.parquet").to_pylist() == _as_columns(rows)
        found = list(csv.DictReader(io.StringIO((tmp_path / "rows.csv").read_text())))
        assert found == [{k: "" if v is None else str(v) for k, v in row.items()} for row in rows]
    # One row is shown to people as a list of its facts.
    n_lines = (
        sum(value is not None for key, value in rows[0].items() if key != "ensemble")
        if is_of_one
        else len(rows)
    )
    assert len(parse_markdown((tmp_path / "rows.md").read_text())) == n_lines
    assert (tmp_path / "rows.tex").read_text().count(r"\\") == n_lines + 1


def test_every_command_that_lists_is_tested():
    """A command that takes -o for rows is among those above."""
    found = {words for words, each in COMMANDS.items() if {"asked", "path"} <= {p.name for p in each.params}}
    tested = {words for words in COMMANDS for command in LISTING if words == tuple(command[: len(words)])}
    assert found - WRITING <= tested


def _as_columns(rows):
    """Rows as Parquet has them: a column of numbers and texts is text."""
    mixed = {
        key for row in rows[:1] for key in row if len({type(row[key]) for row in rows} - {type(None), int, float}) > 0
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


@pytest.mark.parametrize("where", ["no/such/rows.csv", "folder.csv"])
def test_an_output_without_a_place_is_refused_before_the_work(where, tiny, tmp_path, monkeypatch, capsys):
    """A folder that is not there, or stands where the file would, is named before the store is opened."""
    monkeypatch.setattr("jsdelta_db.store.reading.reading", None)  # nothing can be read
    (tmp_path / "folder.csv").mkdir()
    for force in ((), ("--force",)):
        refused(capsys, tiny, 2, "cannot be written", "query", "bugs", "-o", tmp_path / where, *force)
    assert [each.name for each in tmp_path.iterdir()] == ["folder.csv"]


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)  # halves of pairs are no text
SPECIALS = st.text(st.sampled_from("\\{}$&#_%~^<>|\"[]*`'–-a \n\r\t,;é"), max_size=12)
# What a statement's rows can hold: NaN and infinities come out of it as text.
CELLS = {
    "text": st.none() | TEXT | SPECIALS, "whole": st.none() | st.integers(-(2**63), 2**63 - 1),
    "share": st.none() | st.floats(allow_nan=False, allow_infinity=False), "flag": st.none() | st.booleans(),
}  # fmt: skip
ROWS = st.lists(st.fixed_dictionaries(CELLS), min_size=1, max_size=4)


@given(ROWS)
@example([{"text": "\r", "whole": -(2**63), "share": 5e-324, "flag": True}])
def test_machines_read_back_what_was_written(rows):
    """JSON, JSONL and Parquet give equal rows, types included; CSV each value's shortest exact text."""
    assert json.loads(_render(rows, "json")) == rows
    assert [json.loads(line) for line in _render(rows, "jsonl").split("\n")[:-1]] == rows
    table = pq.read_table(pa.BufferReader(_render(rows, "parquet")))
    assert table.to_pylist() == rows
    header, *found = csv.reader(io.StringIO(_render(rows, "csv"), newline=""))
    assert header == list(rows[0])
    assert found == [["" if row[key] is None else str(row[key]) for key in header] for row in rows]


def _render(rows, form):
    """What is written to a file."""
    written = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cli.output._write", lambda content, output: written.append(content))
        write_rows(rows, list(rows[0]), Output(asked=Format(form), path=STDOUT, header=True))
    return written[0]


@given(st.lists(st.tuples(TEXT | SPECIALS, TEXT | SPECIALS), min_size=1, max_size=4))
@example([("*", "--"), ("[0]", '"'), ("\\|", "<b>"), ("-–--", "&amp;")])
def test_people_read_the_text_that_was_meant(pairs):
    """Markdown and LaTeX, read as their readers read them, show each cell; nothing of it is a command."""
    rows = [{"one": one, "other": other} for one, other in pairs]
    cells = [[escape(text, LONGEST_CELL) for text in pair] for pair in pairs]
    _, _, *lines = _render(rows, "markdown").split("\n")[:-1]
    assert [_read_markdown(line) for line in lines] == [[cell.strip() for cell in line] for line in cells]
    lines = _render(rows, "latex").split("\n")[4:-3]
    assert [_read_latex(line) for line in lines] == [[cell.strip() for cell in line] for line in cells]


def _read_markdown(line):
    """Cells of a line: a pipe without a backslash ends one, a backslash takes a mark's meaning away."""
    cells = re.findall(r"((?:\\.|[^|\\])*)\|", line.removeprefix("|"))
    assert not any(re.search(r"(?<!\\)[`<]", cell.replace("\\\\", "")) for cell in cells)
    return [re.sub(r"\\(.)", r"\1", cell).strip() for cell in cells]


NAMED = {
    r"\textbackslash{}": "\\", r"\textasciitilde{}": "~", r"\textasciicircum{}": "^", r"\textless{}": "<",
    r"\textgreater{}": ">", r"\textbar{}": "|", r"{\char34}": '"', "{[}": "[", "{]}": "]", "{*}": "*",
    r"$\varepsilon$": "ε", r"$\rho$": "ρ", r"$\beta$": "β", r"$\Delta$": "Δ", "-{}": "-", r"\textendash{}": "–",
}  # fmt: skip
TEX = re.compile("|".join(map(re.escape, NAMED)) + r"|\\[{}$&#_%]|&|[^\\{}$&#_%~^<>|\"\[\]]")


def _read_latex(line):
    """Cells of a line, read mark by mark: one that is neither a letter nor known by name fails."""
    line = line.removesuffix(r" \\")
    assert line[:1] not in ("*", "[")
    cells, at = [""], 0
    while at < len(line):
        found = TEX.match(line, at)
        assert found, line[at:]
        at = found.end()
        if found[0] == "&":
            cells.append("")
        else:
            cells[-1] += NAMED.get(found[0]) or found[0].removeprefix("\\")
    return [cell.strip() for cell in cells]
