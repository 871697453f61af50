"""Experiments of our own in an MLflow store, told from those that others named alike; runs found."""

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Experiment, Run

EXPERIMENT = "jsdelta"
OWN_TAG = "jsdelta.experiment"
UID_TAG = "jsdelta.uid"  # of every run that we log
# Else the UI guesses from the first run, and may open its pages for language models.
KIND = {"mlflow.experimentKind": "custom_model_development"}
NAME = re.compile(rf"{EXPERIMENT}(-\d+)?")
ATTEMPTS = 5  # to find a free name beside processes that look for one, too


def find_experiment(client: "MlflowClient", location: str | None) -> str:
    """Return the id of our experiment, made under the next free name if there is none.

    MLflow stores absolute folders, so a workspace that was moved goes on in a new experiment.

    Args:
        location: folder of its artifacts as a URI; None for the server's choice.
    """
    from mlflow.exceptions import MlflowException

    for attempt in range(ATTEMPTS):
        for experiment in list_experiments(client, location):
            if experiment.lifecycle_stage == "active" and location in (experiment.artifact_location, None):
                return str(experiment.experiment_id)
        name = _free_name(client)
        try:
            tags = {**KIND, OWN_TAG: "1"}
            return str(client.create_experiment(name, artifact_location=location, tags=tags))
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS" or attempt == ATTEMPTS - 1:
                raise
    raise AssertionError("unreachable")


def list_experiments(client: "MlflowClient", location: str | None = None) -> list["Experiment"]:
    """Return our experiments, the oldest first; deleted ones, too.

    Args:
        location: where this workspace's artifacts lie; None if that tells nothing.
    """
    return [each for each in _named_alike(client) if _is_ours(client, each, location)]


def _named_alike(client: "MlflowClient") -> list["Experiment"]:
    from mlflow.entities import ViewType

    found = client.search_experiments(
        view_type=ViewType.ALL, filter_string=f"name LIKE '{EXPERIMENT}%'", order_by=["creation_time ASC"]
    )
    return [each for each in found if NAME.fullmatch(each.name)]


def _is_ours(client: "MlflowClient", experiment: "Experiment", location: str | None) -> bool:
    """Return whether we made an experiment.

    Those of earlier versions have no tag of ours: they have the kind that we give, and either this
    workspace's folder for their artifacts or a run of ours.
    """
    if OWN_TAG in experiment.tags:
        return True
    if not KIND.items() <= experiment.tags.items():
        return False
    if location is not None and experiment.artifact_location == location:
        return True
    from mlflow.entities import ViewType

    has_ours = f"tags.`{UID_TAG}` LIKE '%'"
    return bool(client.search_runs([experiment.experiment_id], has_ours, ViewType.ALL, max_results=1))


def find_run(client: "MlflowClient", run_id: str | None) -> "Run | None":
    """Return a run; None if MLflow does not have it (any more), as on a server that was named later."""
    from mlflow.exceptions import MlflowException

    if run_id is None:
        return None
    try:
        run = client.get_run(run_id)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return None
    return run if run.info.lifecycle_stage == "active" else None


def _free_name(client: "MlflowClient") -> str:
    taken, number = {each.name for each in _named_alike(client)}, 1
    while (name := EXPERIMENT if number == 1 else f"{EXPERIMENT}-{number}") in taken:
        number += 1
    return name
