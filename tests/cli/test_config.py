"""``jsdelta config show``, and that no command ever shows a password."""

import json

import pytest

from tests.cli.calls import call, parse_table
from tests.workspaces import TINY_STEPS

PASSWORD = "geheim7"
SERVER = f"postgresql://me:{PASSWORD}@127.0.0.1:1/jsdelta"
MLFLOW = f"http://me:{PASSWORD}@127.0.0.1:1"
READING = [
    ["query", "bugs"],
    ["query", "sql", "SELECT 1"],
    ["query", "samples"],
    ["db", "check"],
    ["db", "stats"],
    ["db", "upgrade"],
    ["db", "delete", "abcd"],
    ["attack", "--eps", "3"],
    ["models", "list"],
    ["dataset", "list"],
    ["doctor"],
    ["config", "show"],
    ["plot", "histogram", "-o", "x.svg"],
]


def settings(capsys, workspace, *arguments):
    """Return value and source by setting."""
    code, out, err = call(capsys, workspace, "config", "show", "--format", "json", *arguments)
    assert (code, err) == (0, "")
    return {row["setting"]: (row["value"], row["source"]) for row in json.loads(out)}


def test_defaults_need_no_store_and_make_none(tmp_path, capsys):
    """Everything follows from the workspace; nothing is made."""
    root = tmp_path / "none"
    assert settings(capsys, root) == {
        "workspace": (str(root), "--workspace"),
        "store": (f"sqlite:///{root / 'jsdelta.db'}", "default"),
        "mlflow": (f"sqlite:///{root / 'mlflow.db'}", "default"),
        "data": (str(root / "data"), "default"),
        "tracebacks": ("no", "default"),
    }
    assert list(tmp_path.iterdir()) == []


def test_each_setting_names_its_source(tmp_path, monkeypatch, capsys):
    """A flag beats the environment, the environment the default."""
    from cli.main import run

    monkeypatch.setenv("JSDELTA_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("JSDELTA_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("JSDELTA_DB_URL", SERVER)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", MLFLOW)
    monkeypatch.setenv("JSDELTA_DEBUG", "1")
    assert run(["config", "show", "--format", "json"]) == 0
    found = {row["setting"]: (row["value"], row["source"]) for row in json.loads(capsys.readouterr().out)}
    assert found == {
        "workspace": (str(tmp_path / "home"), "JSDELTA_HOME"),
        "store": ("postgresql://me:***@127.0.0.1:1/jsdelta", "JSDELTA_DB_URL"),
        "mlflow": ("http://me:***@127.0.0.1:1", "MLFLOW_TRACKING_URI"),
        "data": (str(tmp_path / "data"), "JSDELTA_DATA_DIR"),
        "tracebacks": ("yes", "JSDELTA_DEBUG"),
    }
    flags = settings(capsys, tmp_path / "flag", "--data-dir", str(tmp_path / "other"))
    assert flags["workspace"] == (str(tmp_path / "flag"), "--workspace")
    assert flags["data"] == (str(tmp_path / "other"), "--data-dir")


@pytest.mark.parametrize(
    "url", ["me:geheim7@host/db", "host=here password=geheim7", "mysql://me:geheim7@host/db"]
)
def test_address_that_is_none_is_shown_without_its_password(url, tmp_path, monkeypatch, capsys):
    """Even what no command can use is shown, to be found, and hides its password."""
    monkeypatch.setenv("JSDELTA_DB_URL", url)
    value, source = settings(capsys, tmp_path)["store"]
    assert PASSWORD not in value
    assert ("***" in value, source) == (True, "JSDELTA_DB_URL")


def test_formats(tmp_path, capsys):
    """As a table, and as CSV without a header."""
    code, out, _ = call(capsys, tmp_path, "config", "show")
    assert (code, [row["setting"] for row in parse_table(out)][:2]) == (0, ["workspace", "store"])
    _, out, _ = call(capsys, tmp_path, "config", "show", "--format", "csv", "--no-header")
    assert out.startswith(f"workspace,{tmp_path},--workspace\n")


@pytest.mark.parametrize("command", READING, ids=" ".join)
@pytest.mark.parametrize(
    "url",
    [SERVER, f"postgresql://127.0.0.1:1/jsdelta?user=me&password={PASSWORD}"],
    ids=["in front", "in the query"],
)
def test_unreachable_server_keeps_the_password(url, command, tmp_path, monkeypatch, capsys):
    """JSDELTA_DB_URL with a password: neither stdout nor stderr of any command shows it."""
    monkeypatch.setenv("JSDELTA_DB_URL", url)
    monkeypatch.chdir(tmp_path)
    code, out, err = call(capsys, tmp_path, *command)
    assert code == (0 if command[0] == "config" else 1)
    assert PASSWORD not in out + err
    if command[0] not in ("config", "doctor"):
        assert "127.0.0.1:1/jsdelta cannot be reached" in err


def test_unreachable_mlflow_keeps_the_password(tiny_copy, monkeypatch, capsys):
    """MLflow repeats the address that it was told in its errors: our one line does not."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", MLFLOW)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    for command in (
        ["doctor"],
        ["ui"],
        ["attack", "--eps", "3", "--steps", str(TINY_STEPS), "--images", "20"],
        ["query", "bugs"],
    ):
        _, out, err = call(capsys, tiny_copy, *command)
        assert out
        assert PASSWORD not in out + err
        assert ("MLflow failed" in err) is (command[0] == "attack")


@pytest.mark.parametrize("debug", ["", "1"], ids=["a line", "traceback"])
def test_defect_keeps_the_password(debug, tiny, monkeypatch, capsys):
    """An error that nobody foresaw may carry an address, too; so may its traceback."""
    from jsdelta_db.queries import bugs

    def fail(*_):
        raise RuntimeError(f"asked {SERVER} with {PASSWORD}")

    monkeypatch.setenv("MLFLOW_TRACKING_URI", MLFLOW)
    monkeypatch.setenv("JSDELTA_DEBUG", debug)
    monkeypatch.setattr(bugs, "query_bugs", fail)
    code, _, err = call(capsys, tiny, "query", "bugs")
    assert (code, PASSWORD in err) == (1, False)
    assert "asked postgresql://me:***@127.0.0.1:1/jsdelta with ***" in err
    assert ("Traceback" in err) is bool(debug)


def test_mlflow_never_learns_the_password(workspace, postgres_url, monkeypatch, capsys):
    """A store on a server whose URL has a password: no parameter, tag, input or metric of a run holds it."""
    from mlflow import MlflowClient
    from sqlalchemy import make_url

    url = make_url(postgres_url).set(password=PASSWORD).render_as_string(hide_password=False)
    monkeypatch.setenv("JSDELTA_DB_URL", url)  # the server trusts local users, whatever they say
    shown = ""
    for command in (
        ["db", "upgrade"],
        ["train", "--members", "2", "--epochs", "1", "--jobs", "1"],
        ["attack", "--eps", "8", "--steps", "2", "--images", "20"],
        ["query", "bugs"],
        ["db", "stats"],
        ["db", "check"],
        ["doctor"],
        ["config", "show"],
    ):
        code, out, err = call(capsys, workspace, *command)
        assert code == 0, err
        shown += out + err
    assert PASSWORD not in shown
    client = MlflowClient(f"sqlite:///{workspace.root / 'mlflow.db'}")
    experiments = [each.experiment_id for each in client.search_experiments()]
    found = client.search_runs(experiments)
    assert len(found) == 5  # 1 + 2 of training, 1 + 1 of the attack
    assert PASSWORD not in " ".join(str(run.to_dictionary()) for run in found)
    written = [path for path in workspace.root.rglob("*") if path.is_file()]
    assert [path for path in written if PASSWORD.encode() in path.read_bytes()] == []
