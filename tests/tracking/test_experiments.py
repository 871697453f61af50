"""Experiments of ours, beside those that somebody else named like them."""

from dataclasses import replace

import pytest
from mlflow import MlflowClient

from jsdelta_db.tracking import EXPERIMENT, Connection, Tracker
from jsdelta_db.tracking.experiments import KIND, OWN_TAG

UID = "0123456789abcdef"


@pytest.fixture
def client(workspace) -> MlflowClient:
    """MLflow in an empty workspace, before any run of ours."""
    return MlflowClient(f"sqlite:///{workspace.mlflow_file}")


def _log(workspace) -> str:
    """Log a run; return the name of its experiment."""
    connection = Connection(workspace, pytest.fail)
    run = Tracker(connection).start("train", uid=UID, params={})
    return (
        MlflowClient(connection.uri)
        .get_experiment(MlflowClient(connection.uri).get_run(run.run_id).info.experiment_id)
        .name
    )


@pytest.mark.parametrize(
    ("taken", "ours"),
    [
        (["jsdelta-paper"], "jsdelta"),
        (["jsdelta-2"], "jsdelta"),
        (["jsdelta"], "jsdelta-2"),
        (["jsdelta", "jsdelta-2", "jsdelta-4"], "jsdelta-3"),
        (["jsdelta-two", "jsdelta "], "jsdelta"),
    ],
)
@pytest.mark.parametrize("is_local", [True, False], ids=["own store", "server"])
def test_somebody_elses_experiment_gets_no_runs(taken, ours, is_local, workspace, client, tmp_path):
    """Whatever names are taken, our runs are in an experiment of our own under the next free one, and stay there."""
    theirs = [client.create_experiment(name, artifact_location=str(tmp_path / "theirs")) for name in taken]
    place = workspace if is_local else replace(workspace, tracking_uri=f"sqlite:///{workspace.mlflow_file}")
    assert [_log(place), _log(place)] == [ours, ours]
    assert [len(client.search_runs([each])) for each in theirs] == [0] * len(theirs)
    assert client.get_experiment_by_name(ours).tags[OWN_TAG] == "1"


def test_a_deleted_experiment_keeps_its_name(workspace, client):
    """MLflow keeps a deleted experiment's name: the next one is taken."""
    assert _log(workspace) == EXPERIMENT
    client.delete_experiment(client.get_experiment_by_name(EXPERIMENT).experiment_id)
    assert _log(workspace) == f"{EXPERIMENT}-2"


def test_the_experiment_of_an_earlier_version_goes_on(workspace, client):
    """An experiment without our tag is ours if its artifacts lie in this workspace, as earlier versions made it."""
    client.create_experiment(EXPERIMENT, artifact_location=workspace.runs_dir.as_uri(), tags=KIND)
    assert _log(workspace) == EXPERIMENT


@pytest.mark.parametrize(("uid", "ours"), [(UID, "jsdelta"), (None, "jsdelta-2")], ids=["ours", "theirs"])
def test_an_earlier_versions_experiment_on_a_server_is_told_by_its_runs(uid, ours, workspace, client):
    """On a server an experiment without our tag is ours if a run of ours is in it."""
    made = client.create_experiment(EXPERIMENT, tags=KIND)
    client.create_run(made, tags={} if uid is None else {"jsdelta.uid": uid})
    assert _log(replace(workspace, tracking_uri=f"sqlite:///{workspace.mlflow_file}")) == ours


def test_a_run_that_the_server_does_not_have_is_passed_over(workspace, tmp_path):
    """Files of a run that is elsewhere, or was deleted, are not logged; what follows is."""
    place = replace(workspace, tracking_uri=f"sqlite:///{workspace.mlflow_file}")
    tracker = Tracker(Connection(place, pytest.fail))
    (tmp_path / "file.txt").touch()
    elsewhere = tracker.reattach("0" * 32, tmp_path)
    elsewhere.file(tmp_path / "file.txt")
    assert elsewhere.logged_id is None
    assert tracker.reopen("0" * 32, tmp_path).logged_id is None
    run = tracker.start("attack", uid=UID, params={})
    run.metrics({"loss": 1.0})
    assert run.logged_id is not None
    assert not tracker.failed


def test_a_run_that_was_deleted_meanwhile_is_passed_over(workspace, client):
    """A run that somebody deletes while it is logged counts as not logged, so that a repair finds it."""
    tracker = Tracker(Connection(workspace, pytest.fail))
    run = tracker.start("attack", uid=UID, params={})
    client.delete_run(run.run_id)
    run.metrics({"loss": 1.0})
    assert run.logged_id is None
    assert not tracker.failed
