"""Commands run in process, and their output read back."""

import json

from cli.main import run
from jsdelta_db.config.locations import Workspace

# Of machines' formats: judged_by also goes by its old name, ensemble.
DEFAULT_KEYS = ["dataset", "attacked_ensemble", "attacked", "judged_by", "ensemble", "norm", "eps"]


def call(capsys, workspace, *arguments):
    """Run one command on a workspace; return exit code, stdout and stderr."""
    capsys.readouterr()  # what setting up the test has printed
    folder = workspace.root if isinstance(workspace, Workspace) else workspace
    code = run(["--workspace", str(folder), *arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def refused(capsys, workspace, code, fragment, *arguments):
    """Run a command that must fail with one line; return the line."""
    found, out, err = call(capsys, workspace, *map(str, arguments))
    assert (found, out, err.count("\n")) == (code, "", 1), err
    assert err.startswith("jsdelta: ")
    assert fragment in err
    assert "a defect" not in err
    return err


def words(value):
    """Return the id of a parameter: a command's words, nothing for the rest."""
    return " ".join(value) if isinstance(value, list) else ""


def query_json(capsys, workspace, *arguments):
    """Query in JSON; return the rows and the notes on stderr."""
    code, out, err = call(capsys, workspace, "query", *arguments, "--format", "json")
    assert (code, err.count("jsdelta:")) == (0, 0), err
    return json.loads(out), err


def query(capsys, workspace, *arguments):
    """Return the rows of ``query bugs``."""
    return query_json(capsys, workspace, "bugs", *arguments)[0]


def parse_markdown(text):
    """Return the rows of a Markdown table."""
    header, rule, *rows = [
        [cell.strip() for cell in line.strip("|\n").split("|")] for line in text.splitlines()
    ]
    assert set(rule) == {"---"}
    assert len(header) == len(rule)
    return [dict(zip(header, row, strict=True)) for row in rows]


def parse_table(text):
    """Return the rows of a table; facts that all rows share may stand in a line above it."""
    lines = text.splitlines()
    shared = {} if "  " in lines[0] else dict(fact.rsplit(" ", 1) for fact in lines.pop(0).split(", "))
    header, *rows = [[cell.strip() for cell in line.split("  ") if cell.strip()] for line in lines]
    return [shared | dict(zip(header, row, strict=True)) for row in rows]
