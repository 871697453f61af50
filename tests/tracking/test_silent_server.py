"""An MLflow server that accepts and never answers: work goes on without it."""

import socket
from dataclasses import replace

import pytest

from jsdelta_db.runtime.patience import Limit
from jsdelta_db.tracking import Connection, Tracker, connection
from jsdelta_db.tracking.connection import LOG_LATER
from tests.cli.calls import call


@pytest.fixture
def silent(monkeypatch) -> str:
    """The address of such a server; it is waited for half a second."""
    monkeypatch.setattr(connection, "SERVER", Limit(0.5, tell=0.2))
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://user:hidden@127.0.0.1:{server.getsockname()[1]}"


def test_it_is_named_once_and_given_up(silent, workspace):
    """One line says who is waited for, one that it was given up; nothing more is asked of it."""
    said = []
    tracker = Tracker(Connection(replace(workspace, tracking_uri=silent), said.append))
    run = tracker.start("train", uid="0123456789abcdef", params={})
    with run.closing():
        run.metrics({"loss": 1.0})
    shown = silent.replace("hidden", "***")
    assert said == [
        f"waiting for MLflow at {shown}, which does not answer",
        f"MLflow failed ({shown}: no answer within 0.5 seconds); {LOG_LATER}",
    ]
    assert run.logged_id is None


def test_an_attack_goes_on_without_it(silent, tiny_copy, monkeypatch, capsys):
    """The attack is stored, and a repair logs it where MLflow answers."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", silent)
    code, _, err = call(capsys, tiny_copy, "attack", "--eps", "5", "--images", "20", "--steps", "2")
    assert (code, err.count("MLflow failed")) == (0, 1)
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    code, _, err = call(capsys, tiny_copy, "doctor", "--repair")
    assert code == 0
    assert err.count("logged evaluation") == 1
