"""Tracker: a workspace's runs in MLflow, started, reopened, closed and deleted."""

import sys
import time
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jsdelta_db.runtime.leases import current_owner, is_alive
from jsdelta_db.runtime.redaction import redact
from jsdelta_db.tracking.connection import Connection
from jsdelta_db.tracking.environment import find_commit, find_user
from jsdelta_db.tracking.experiments import UID_TAG, find_run
from jsdelta_db.tracking.run_log import KILLED, RunLog

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

PARENT_TAG = "mlflow.parentRunId"
OWNER_TAG = "jsdelta.owner"


class Tracker:
    """The runs of a workspace; offline, over a ``NullConnection``, none is logged."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    @property
    def failed(self) -> bool:
        """Whether an MLflow call failed, so that later ones are not made."""
        return self.connection.failure is not None

    def count_runs(self) -> int | None:
        """Return how many runs of ours MLflow has; None if it cannot be reached."""
        return self.connection.attempt(
            lambda client: len(client.search_runs([self.connection.experiment_id], max_results=10_000))
        )

    def start(
        self, name: str, *, uid: str, parent: RunLog | None = None, params: Mapping[str, Any]
    ) -> RunLog:
        """Start a run, nested in ``parent`` if there is one.

        Args:
            uid: of the row it logs; names the folder if MLflow has none for us.
            params: configuration, logged as it is.
        """

        def create(client: "MlflowClient") -> tuple[str, str]:
            from mlflow.entities import Param

            tags = {key: _as_text(value) for key, value in self._tags(uid, parent).items()}
            run = client.create_run(self.connection.experiment_id, run_name=_as_text(name), tags=tags)
            given = [Param(key, _as_text(value)) for key, value in params.items() if value is not None]
            client.log_batch(run.info.run_id, params=given)
            return run.info.run_id, run.info.artifact_uri

        run_id, artifact_uri = self.connection.attempt(create) or (None, "")
        folder = self.connection.folder_of(artifact_uri)
        own_folder = self.connection.workspace.runs_dir / uid / "artifacts"
        return RunLog(self.connection, run_id, folder or own_folder)

    def _tags(self, uid: str, parent: RunLog | None) -> dict[str, str]:
        tags = {
            UID_TAG: uid,
            OWNER_TAG: current_owner(),
            "mlflow.user": find_user(),
            "mlflow.source.name": redact(" ".join(["jsdelta", *sys.argv[1:]]), [self.connection.uri]),
            "mlflow.source.type": "LOCAL",
        }
        commit = find_commit()
        if commit:
            tags["mlflow.source.git.commit"] = commit
        if parent is not None and parent.run_id:
            tags[PARENT_TAG] = parent.run_id
        return tags

    def reopen(self, run_id: str | None, folder: Path, parent: RunLog | None = None) -> RunLog:
        """Go on with a run that was stopped, now as part of ``parent``; its files stay where they are.

        Where MLflow does not have it, the rest is not logged: a repair logs all of it.
        """

        def resume(client: "MlflowClient") -> str | None:
            if run_id is None or find_run(client, run_id) is None:
                return None
            before = find_run(client, _parent_of(client, run_id))
            client.update_run(run_id, status="RUNNING")
            client.set_tag(run_id, OWNER_TAG, current_owner())
            if parent is not None and parent.run_id:
                client.set_tag(run_id, PARENT_TAG, parent.run_id)
            # A call that was killed could not close its own run.
            if before is not None and before.info.status == "RUNNING" and not _has_owner(before):
                client.set_terminated(before.info.run_id, KILLED)
            return run_id

        return RunLog(self.connection, self.connection.attempt(resume) if run_id else None, folder)

    def reattach(self, run_id: str | None, folder: Path) -> RunLog:
        """Return a finished run, to add files to."""
        return RunLog(self.connection, run_id, folder)

    def close_abandoned(self) -> list[str]:
        """Close runs that still count as running although their process on this host is gone."""

        def close(client: "MlflowClient") -> list[str]:
            ours = [experiment.experiment_id for experiment in self.connection.experiments(client)]
            running = client.search_runs(ours, "attributes.status = 'RUNNING'", max_results=1000)
            gone = [run.info.run_id for run in running if OWNER_TAG in run.data.tags and not _has_owner(run)]
            for run_id in gone:
                client.set_terminated(run_id, KILLED)
            return gone

        return self.connection.attempt(close) or []

    def delete_runs(self, run_ids: Collection[str], *, with_parents: bool = True) -> int:
        """Delete runs as MLflow does, so that ``mlflow gc`` removes them; return how many.

        A run that MLflow does not have (any more) is passed over.

        Args:
            with_parents: whether a run that held these and no others goes, too.
        """
        connection = self.connection
        if not run_ids or (connection.is_local and not connection.workspace.mlflow_file.exists()):
            return 0
        then = "the rows are gone all the same, their runs go with the next command that reaches it"

        def delete(client: "MlflowClient") -> int:
            parents = [_parent_of(client, run_id) for run_id in run_ids if with_parents]
            deleted = sum(_delete(client, run_id) for run_id in run_ids)
            left = {parent for parent in parents if parent is not None} - set(run_ids)
            return deleted + sum(_delete(client, each) for each in left if not has_nested(client, each))

        def has_nested(client: "MlflowClient", run_id: str) -> bool:
            ours = [experiment.experiment_id for experiment in connection.experiments(client)]
            return bool(client.search_runs(ours, f"tags.`{PARENT_TAG}` = '{run_id}'", max_results=1))

        return connection.attempt(delete, then) or 0


def _has_owner(run: "Run") -> bool:
    """Return whether the process that works on a run lives; one of another host counts as alive."""
    return is_alive(run.data.tags.get(OWNER_TAG), time.time())


def _parent_of(client: "MlflowClient", run_id: str) -> str | None:
    """Return the run that another is nested in; None if MLflow lacks either."""
    run = find_run(client, run_id)
    return None if run is None else run.data.tags.get(PARENT_TAG)


def _delete(client: "MlflowClient", run_id: str) -> bool:
    if find_run(client, run_id) is None:
        return False
    client.delete_run(run_id)
    return True


def _as_text(value: object) -> str:
    """Return what a tag or parameter can hold: a name of the system's may be no text."""
    return str(value).encode(errors="replace").decode()
