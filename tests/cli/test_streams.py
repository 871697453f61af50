"""Streams, folders and text as a system may give them: one line and the right exit code."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from cli import commands, output, progress
from cli.main import run
from tests.cli.calls import call, refused
from tests.reading import tell

JSDELTA = Path(sys.executable).parent / "jsdelta"
HOSTILE = "a\x1b[2Jb\u202ec\nd"
SHOWN = "a\\x1b[2Jb\\u202ec\\nd"


def start(command, folder, **environment):
    """Run a shell command line with ``$J`` for jsdelta, in a folder."""
    return subprocess.run(
        ["sh", "-c", command], cwd=folder, capture_output=True, env={**os.environ, "J": str(JSDELTA), **environment}
    )  # fmt: skip


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_an_output_that_is_not_utf8_gets_replacements(encoding, tiny, tmp_path):
    """What an encoding lacks is replaced, in tables as in help, and the exit code is 0."""
    done = start(f"$J -w '{tiny.root}' query bugs && $J train --help", tmp_path, PYTHONIOENCODING=encoding)
    assert (done.returncode, b"Traceback" in done.stderr) == (0, False), done.stderr
    assert b"3/255" in done.stdout
    done.stdout.decode(encoding)


@pytest.mark.parametrize(
    ("command", "code"),
    [
        ("$J recipes list >&-", 0), ("$J recipes show nope 2>&-", 2), ("$J recipes list <&- >&- 2>&-", 0),
        ("mkdir gone && cd gone && rmdir ../gone && $J config show", 2),
    ],
)  # fmt: skip
def test_closed_streams_and_a_deleted_folder(command, code, tmp_path):
    """Streams that a daemon closed, and a working folder that is gone, are no defect."""
    done = start(command, tmp_path)
    assert done.returncode == code, done.stderr
    assert b"defect" not in done.stderr
    assert done.stderr.count(b"\n") <= 1


@pytest.mark.parametrize(
    ("arguments", "fragment"),
    [
        (["query", "sql", "SELECT \udcff"], "is no text: must be UTF-8"),
        (["query", "bugs", "--library", "\udcff"], "is no text: must be UTF-8"),
        (["query", "bugs", "-o", "x" * 5000], "is no path: File name too long"),
        (["train", "--recipe", "x" * 5000 + ".toml"], "cannot be read (File name too long)"),
        (
            ["query", "samples", "--limit", "9" * 20],
            "is out of range: must be a whole number from 0 to 21474",
        ),
        (["ui", "--host", "ü" * 70], "is no host name"),
        (["ui", "--host", ""], "is no host name"),
        (["attack", "--eps", "8", "--attacked", "9" * 5000], "is no model or ensemble"),
        (["attack", "--eps", "8", "--targets", "9" * 5000], "unknown --targets"),
        (
            ["score", "--attack", "abcd", "--device", "tpu"],
            "device 'tpu' is not valid: must be auto, cpu, cuda or",
        ),
    ],
    ids=lambda value: ascii(value[0])[:30] if isinstance(value, list) else "",
)
def test_values_that_no_file_or_text_has(arguments, fragment, tiny, capsys):
    """Undecodable bytes, endless numbers and paths are refused as typed."""
    refused(capsys, tiny, 2, fragment, *arguments)


@pytest.mark.parametrize("host", ["ü" * 70, "x" * 64, "a..b"])
def test_a_host_that_none_can_be_called_is_refused(host, tiny, monkeypatch, capsys):
    """Labels of a host name have 63 characters at most: said before a driver trips over it."""
    monkeypatch.setenv("JSDELTA_DB_URL", f"postgresql://user:secret@{host}/db")
    line = refused(capsys, tiny, 2, "JSDELTA_DB_URL names a host that none can be called", "query", "bugs")
    assert "secret" not in line


def test_a_workspace_of_5000_characters_is_refused(capsys):
    """No folder is called so."""
    assert run(["--workspace", "x" * 5000, "query", "bugs"]) == 2
    assert "is no path: File name too long" in capsys.readouterr().err


def test_a_recipe_nested_3000_deep_is_refused(tiny, tmp_path, capsys):
    """Python's own limit is no defect of ours."""
    path = tmp_path / "deep.toml"
    path.write_text("dataset = " + "[" * 3000 + "]" * 3000)
    refused(capsys, tiny, 2, "recipe 'deep' is not TOML", "train", "--recipe", str(path))


# ---- text that a terminal would obey


def test_hostile_names_are_escaped_wherever_they_are_shown(tiny_copy, capsys):
    """Names that an older version stored reach tables and errors escaped; CSV and JSON stay as they are."""
    name = "'a' || char(27) || '[2Jb' || char(8238) || 'c' || char(10) || 'd'"
    tell(tiny_copy, f"UPDATE ensemble SET name = {name}")
    code, out, _ = call(capsys, tiny_copy, "query", "ensembles")
    assert (code, SHOWN in out, "\x1b" in out) == (0, True, False)
    _, out, _ = call(capsys, tiny_copy, "query", "sql", "SELECT name FROM ensemble")
    assert (out.count("\n"), "\x1b" in out) == (2, False)
    _, out, err = call(capsys, tiny_copy, "query", "bugs", "--ensemble", "nope")
    assert (out, "\x1b" in err, "\u202e" in err, err.count("\n")) == ("", False, False, 1)
    _, out, _ = call(capsys, tiny_copy, "query", "ensembles", "--format", "csv")
    assert HOSTILE in out


def test_notes_and_progress_are_escaped_and_short(capsys):
    """Lines beside the data are one line each, whatever they hold."""
    output.note(HOSTILE)
    output.say("x" * 10_000)
    bars = progress.TerminalProgress()
    bars.report(HOSTILE)
    with bars.task(HOSTILE, 1) as advance:
        advance(1, "[bold]" + HOSTILE)
    captured = capsys.readouterr()
    assert captured.err.splitlines() == [SHOWN, SHOWN, f"{SHOWN}: done, [bold]{SHOWN}"]
    assert len(captured.out) < 2_100


def test_every_line_for_people_passes_the_one_place_that_escapes():
    """No command prints by itself: only output.py does, but for texts of the package's own."""
    folder = Path(commands.__file__).parent
    own = {"output.py", "main.py", "quickstart.py", "recipes.py"}
    printing = {
        path.name for path in folder.glob("*.py") if "typer.echo(" in path.read_text(encoding="utf-8")
    }
    assert printing == own
