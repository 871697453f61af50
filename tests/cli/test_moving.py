"""``jsdelta db export``, ``db import`` and ``attack --offline``, as typed."""

import pytest

from tests.cli.calls import call, parse_table, query, refused


def test_out_and_in(tiny, tmp_path, capsys):
    """The folder goes to stdout, counts to stderr; the import's table says what was new, and again that nothing is."""
    code, out, err = call(capsys, tiny, "db", "export", "-o", str(tmp_path / "backup"))
    assert (code, out) == (0, f"{tmp_path / 'backup'}\n")
    assert err.splitlines()[-1].endswith("files; jsdelta db import reads them")
    there = tmp_path / "there"
    code, out, err = call(capsys, there, "db", "import", str(tmp_path / "backup"))
    assert code == 0
    assert [tuple(row.values()) for row in parse_table(out)] == [
        ("dataset", "1", "1"), ("model", "3", "3"), ("ensemble", "1", "1"), ("attack", "2", "2"),
        ("evaluation", "2", "2"),
    ]  # fmt: skip
    assert "9 new of 9 runs" in err
    assert "doctor --repair" in err
    assert query(capsys, there) == query(capsys, tiny)
    assert call(capsys, there, "db", "check")[:2] == (0, "ok\n")
    code, out, err = call(capsys, there, "db", "import", str(tiny.root), "--format", "csv")
    assert (code, out.splitlines()[1]) == (0, "dataset,1,0")
    assert "0 new of 9 runs, 0 files copied\n" in err


@pytest.mark.parametrize(
    ("arguments", "code", "reason"),
    [
        (["db", "export"], 2, "--output"),
        (["db", "import", "nowhere"], 2, "'nowhere' is not there: must be "),
        (["db", "import", "mysql://me:hidden@host/db"], 2, "must be an export's folder"),
        (["db", "import", "postgresql://me:hidden@127.0.0.1:1/db"], 1, "cannot be reached"),
        (["db", "import", "."], 1, "holds neither manifest.json nor jsdelta.db"),
        (["attack", "--eps", "3", "--offline"], 2, "name it: --output FOLDER"),
        (["attack", "--eps", "3", "-o", "node"], 2, "go with --offline"),
        (["attack", "--eps", "3", "--from", "base"], 2, "go with --offline"),
        (["attack", "--eps", "3", "--offline", "-o", "node", "--from", "nowhere"], 2, "is not there"),
        (["attack", "--eps", "3", "--offline", "-o", "node"], 3, "jsdelta train --seed 0"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(arguments, code, reason, tmp_path, monkeypatch, capsys):
    """Each mistake has its exit code and a line that says what is valid; no password, and nothing is made."""
    monkeypatch.chdir(tmp_path)
    assert "hidden" not in refused(capsys, tmp_path, code, reason, *arguments)
    assert list(tmp_path.iterdir()) == []


def test_no_password_is_shown(tiny_copy, tmp_path, postgres_url, monkeypatch, capsys):
    """With a server on either side, a password given in the URL is in no output."""
    from sqlalchemy import make_url

    url = make_url(postgres_url).set(username="postgres", password="hidden-word")
    secret = url.render_as_string(hide_password=False)
    with monkeypatch.context() as patch:
        patch.setenv("JSDELTA_DB_URL", secret)
        code, out, err = call(capsys, tmp_path / "server", "db", "import", str(tiny_copy.root))
        assert code == 0, err
        assert "hidden-word" not in out + err
    code, out, err = call(
        capsys, tmp_path / "back", "db", "import", secret, "--files-from", str(tmp_path / "server")
    )
    assert code == 0, err
    assert "hidden-word" not in out + err
    assert query(capsys, tmp_path / "back") == query(capsys, tiny_copy)


def test_unfinished_runs_are_counted(tiny_copy, tmp_path, capsys):
    """What stays behind is said on stderr."""
    from tests.reading import tell

    tell(tiny_copy, "UPDATE evaluation SET status = 'pending', finished_at = NULL WHERE id = 2")
    _, _, err = call(capsys, tiny_copy, "db", "export", "-o", str(tmp_path / "backup"))
    assert "1 unfinished runs left out" in err
