"""Servers that stop answering beside the installed command: it ends by itself or by Ctrl-C, and goes on later."""

import signal
import socket

import pytest

from tests.faults.attacks import ATTACK, Watch, error_line, finish, start
from tests.stopping import stopped


@pytest.fixture(autouse=True)
def _heeding_ctrl_c():
    """A shell's background job ignores SIGINT, and its children inherit that."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.slow
@pytest.mark.parametrize("is_interrupted", [True, False], ids=["Ctrl-C", "by itself"])
def test_stopped_postgresql(is_interrupted, postgres_workspace, calm_end, capsys):
    """A PostgreSQL that stops in the middle of an attack is named in one line; the same command goes on once it answers."""
    process, watch = start(postgres_workspace, *ATTACK), Watch(postgres_workspace)
    watch.until_claimed(process)
    with stopped(postgres_workspace.db_url):
        if is_interrupted:
            process.send_signal(signal.SIGINT)
        _, err = process.communicate()
    if is_interrupted:
        assert process.returncode == 130, err
        assert "Traceback" not in err
    else:
        assert "postgresql://" in error_line(process.returncode, err)
        assert err.count("which does not answer") == 1
    finish(capsys, postgres_workspace, ATTACK, calm_end)


@pytest.mark.slow
def test_ctrl_c_while_mlflow_does_not_answer(sqlite_workspace, monkeypatch):
    """An attack that waits for a silent MLflow server ends by Ctrl-C, in the way that every interrupted one does."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{server.getsockname()[1]}")
        process = start(sqlite_workspace, *ATTACK)
        connection, _ = server.accept()
        with connection:
            process.send_signal(signal.SIGINT)
            _, err = process.communicate()
    assert process.returncode == 130
    assert err.count("jsdelta: interrupted") == 1
    assert "Traceback" not in err
