"""A workspace's MLflow."""

import sys
import time
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlparse
from urllib.request import url2pathname

from jsdelta_db.config.locations import Workspace
from jsdelta_db.runtime.leases import current_owner, is_alive
from jsdelta_db.runtime.redaction import hide_password, redact
from jsdelta_db.tracking.environment import find_commit, find_user, lock, quiet
from jsdelta_db.tracking.run_log import KILLED, RunLog

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Experiment, Run

EXPERIMENT = "jsdelta"
PARENT_TAG = "mlflow.parentRunId"
OWNER_TAG = "jsdelta.owner"
LOG_LATER = "results are stored all the same, log them later with jsdelta doctor --repair"

Result = TypeVar("Result")


class Tracker:
    """A workspace's MLflow, opened at the first run; ``say`` gets the one line if it fails."""

    def __init__(self, workspace: Workspace, say: Callable[[str], None]) -> None:
        self._workspace = workspace
        self._say = say
        self._client: MlflowClient | None = None
        self._experiment_id = ""
        self.failed = False

    @property
    def uri(self) -> str:
        """MLflow's tracking URI."""
        return self._workspace.tracking_uri or f"sqlite:///{self._workspace.root / 'mlflow.db'}"

    @property
    def is_local(self) -> bool:
        """Whether runs are kept in the workspace itself, not in a store that the user named."""
        return self._workspace.tracking_uri is None

    @property
    def shown_uri(self) -> str:
        """The tracking URI without a password, for people."""
        return hide_password(self.uri)

    def count_runs(self) -> int | None:
        """Return how many runs MLflow has of ours, None if it cannot be reached."""
        return self.attempt(lambda client: len(client.search_runs([self._experiment_id], max_results=10_000)))

    def attempt(self, call: Callable[["MlflowClient"], Result], then: str = LOG_LATER) -> Result | None:
        """Make one MLflow call; after a first failure none is tried again.

        Args:
            then: what a failure means for the work, and what to do.
        """
        if self.failed:
            return None
        try:
            return call(self._open())
        except Exception as error:  # noqa: BLE001 whatever MLflow raises, the work goes on
            self.failed = True
            # MLflow names the server that it asked as it was told it, password and all.
            told = redact(str(error), [self.uri]).strip()
            reason = (told.splitlines() or [type(error).__name__])[0][:160]
            self._say(f"MLflow failed ({type(error).__name__}: {reason}); {then}")
            return None

    def _open(self) -> "MlflowClient":
        if self._client is None:
            with quiet(), lock(self._workspace.root / ".jsdelta.lock"):
                from mlflow import MlflowClient

                client = MlflowClient(tracking_uri=self.uri)
                self._experiment_id = self._find_experiment(client)
                self._client = client
        return self._client

    def make_store(self) -> None:
        """Make MLflow's tables, and nothing in them."""
        with quiet(), lock(self._workspace.root / ".jsdelta.lock"):
            from mlflow import MlflowClient

            MlflowClient(tracking_uri=self.uri).search_experiments(max_results=1)

    def _find_experiment(self, client: "MlflowClient") -> str:
        """Return our experiment: on a server the first, locally the one with its artifacts in this workspace.

        MLflow keeps absolute folders, so a workspace that was moved goes on in a new experiment.
        """
        # MLflow's own default folder is relative to where it is called from, which need not be ours.
        location = None if self._workspace.tracking_uri else self._workspace.runs_dir.as_uri()
        found = _our_experiments(client)
        for experiment in found:
            if experiment.lifecycle_stage == "active" and location in (experiment.artifact_location, None):
                return str(experiment.experiment_id)
        name = EXPERIMENT if not found else f"{EXPERIMENT}-{len(found) + 1}"
        # Else the UI guesses from the first run, and may open its pages for language models.
        kind = {"mlflow.experimentKind": "custom_model_development"}
        return str(client.create_experiment(name, artifact_location=location, tags=kind))

    def start(
        self, name: str, *, uid: str, parent: "RunLog | None" = None, params: Mapping[str, Any]
    ) -> "RunLog":
        """Start a run, nested in ``parent`` if there is one.

        Args:
            uid: of the row it logs; names the folder if MLflow has none for us.
            params: configuration, logged as it is.
        """
        tags = {
            "jsdelta.uid": uid,
            OWNER_TAG: current_owner(),
            "mlflow.user": find_user(),
            "mlflow.source.name": redact(" ".join(["jsdelta", *sys.argv[1:]]), [self.uri]),
            "mlflow.source.type": "LOCAL",
        }
        commit = find_commit()
        if commit:
            tags["mlflow.source.git.commit"] = commit
        if parent is not None and parent.run_id:
            tags[PARENT_TAG] = parent.run_id

        def create(client: "MlflowClient") -> tuple[str, str]:
            from mlflow.entities import Param

            run = client.create_run(self._experiment_id, run_name=name, tags=tags)
            given = [Param(key, str(value)) for key, value in params.items() if value is not None]
            client.log_batch(run.info.run_id, params=given)
            return run.info.run_id, run.info.artifact_uri

        run_id, artifact_uri = self.attempt(create) or (None, "")
        return RunLog(
            self, run_id, self.folder_of(artifact_uri) or self._workspace.runs_dir / uid / "artifacts"
        )

    def reopen(self, run_id: str | None, folder: Path, parent: "RunLog | None" = None) -> "RunLog":
        """Go on with a run that was stopped, now as part of ``parent``; its files stay where they are."""

        def resume(client: "MlflowClient") -> str:
            assert run_id is not None
            before = _find(client, _parent_of(client, run_id))
            client.update_run(run_id, status="RUNNING")
            client.set_tag(run_id, OWNER_TAG, current_owner())
            if parent is not None and parent.run_id:
                client.set_tag(run_id, PARENT_TAG, parent.run_id)
            # A call that was killed could not close its own run.
            if before is not None and before.info.status == "RUNNING" and not _has_owner(before):
                client.set_terminated(before.info.run_id, KILLED)
            return run_id

        return RunLog(self, self.attempt(resume) if run_id else None, folder)

    def close_abandoned(self) -> list[str]:
        """Close runs that still count as running although their process on this host is gone."""

        def close(client: "MlflowClient") -> list[str]:
            ours = [experiment.experiment_id for experiment in _our_experiments(client)]
            running = client.search_runs(ours, "attributes.status = 'RUNNING'", max_results=1000)
            gone = [run.info.run_id for run in running if OWNER_TAG in run.data.tags and not _has_owner(run)]
            for run_id in gone:
                client.set_terminated(run_id, KILLED)
            return gone

        return self.attempt(close) or []

    def delete_runs(self, run_ids: Collection[str], *, with_parents: bool = True) -> int:
        """Delete runs the way MLflow does, so that ``mlflow gc`` ends them; return how many.

        A run that MLflow does not have (any more) is passed over.

        Args:
            with_parents: whether a run that held these and no others goes, too.
        """
        if not run_ids or (self.is_local and not (self._workspace.root / "mlflow.db").exists()):
            return 0
        then = "the rows are gone all the same, delete their runs on MLflow's own pages"

        def delete(client: "MlflowClient") -> int:
            parents = [_parent_of(client, run_id) for run_id in run_ids if with_parents]
            deleted = sum(_delete(client, run_id) for run_id in run_ids)
            left = {parent for parent in parents if parent is not None} - set(run_ids)
            return deleted + sum(_delete(client, each) for each in left if not _has_nested(client, each))

        return self.attempt(delete, then) or 0

    def reattach(self, run_id: str | None, folder: Path) -> "RunLog":
        """Return a finished run, to add files to."""
        return RunLog(self, run_id, folder)

    def folder_of(self, artifact_uri: str) -> Path | None:
        """Return a run's own artifact folder, if it is a local one in the workspace."""
        parsed = urlparse(artifact_uri)
        path = Path(url2pathname(parsed.path)) if parsed.scheme in ("", "file") and parsed.path else None
        return path if path and path.is_relative_to(self._workspace.root) else None


def _has_owner(run: "Run") -> bool:
    """Whether the process that works on a run lives; of other hosts we cannot tell, and say yes."""
    return is_alive(run.data.tags.get(OWNER_TAG), time.time())


def _parent_of(client: "MlflowClient", run_id: str) -> str | None:
    """Return the run that another is nested in; None if there is none, or MLflow does not have the other."""
    run = _find(client, run_id)
    return None if run is None else run.data.tags.get(PARENT_TAG)


def _find(client: "MlflowClient", run_id: str | None) -> "Run | None":
    """Return a run, None if MLflow does not have it (any more)."""
    from mlflow.exceptions import MlflowException

    try:
        return None if run_id is None else client.get_run(run_id)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return None


def _has_nested(client: "MlflowClient", run_id: str) -> bool:
    ours = [experiment.experiment_id for experiment in _our_experiments(client)]
    return bool(client.search_runs(ours, f"tags.`{PARENT_TAG}` = '{run_id}'", max_results=1))


def _delete(client: "MlflowClient", run_id: str) -> bool:
    from mlflow.exceptions import MlflowException

    try:
        client.delete_run(run_id)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return False
    return True


def _our_experiments(client: "MlflowClient") -> list["Experiment"]:
    """Return jsdelta's experiments, the oldest first; deleted ones keep their names, and count."""
    from mlflow.entities import ViewType

    found = client.search_experiments(
        view_type=ViewType.ALL, filter_string=f"name LIKE '{EXPERIMENT}%'", order_by=["creation_time ASC"]
    )
    return list(found)
