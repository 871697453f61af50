"""Commands run in process, and their output read back."""

import json
import sqlite3

from cli.main import run
from jsdelta_db.config.locations import Workspace

DEFAULT_KEYS = ["dataset", "ensemble", "attacked", "norm", "eps"]


def call(capsys, workspace, *arguments):
    """Run one command on a workspace; return exit code, stdout and stderr."""
    capsys.readouterr()  # what setting up the test has printed
    folder = workspace.root if isinstance(workspace, Workspace) else workspace
    code = run(["--workspace", str(folder), *arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def query(capsys, workspace, *arguments):
    """Ask for JSON and return the rows."""
    code, out, err = call(capsys, workspace, "query", "bugs", "--format", "json", *arguments)
    assert (code, err.count("jsdelta:")) == (0, 0), err
    return json.loads(out)


def parse_markdown(text):
    header, rule, *rows = [
        [cell.strip() for cell in line.strip("|\n").split("|")] for line in text.splitlines()
    ]
    assert set(rule) == {"---"}
    assert len(header) == len(rule)
    return [dict(zip(header, row, strict=True)) for row in rows]


def parse_table(text):
    """Cells are at least two spaces apart; what all rows share may stand in a line above the table."""
    lines = text.splitlines()
    shared = {} if "  " in lines[0] else dict(fact.rsplit(" ", 1) for fact in lines.pop(0).split(", "))
    header, *rows = [[cell.strip() for cell in line.split("  ") if cell.strip()] for line in lines]
    return [shared | dict(zip(header, row, strict=True)) for row in rows]


def execute(workspace, *statements):
    """Change the store behind the tool's back."""
    connection = sqlite3.connect(workspace.root / "jsdelta.db")
    for statement in statements:
        connection.execute(statement)
    connection.commit()
    connection.close()


def one(workspace, statement, *values):
    """Return the first row of a query."""
    connection = sqlite3.connect(workspace.root / "jsdelta.db")
    try:
        return connection.execute(statement, values).fetchone()
    finally:
        connection.close()
