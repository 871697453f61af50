"""MLflow connection of a workspace: opened at the first call, and given up at the first failure."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlparse
from urllib.request import url2pathname

from jsdelta_db.config.locations import Workspace
from jsdelta_db.runtime.files import locked_file
from jsdelta_db.runtime.redaction import hide_password, redact
from jsdelta_db.tracking.environment import quiet

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Experiment

EXPERIMENT = "jsdelta"
LOG_LATER = "results are stored all the same, log them later with jsdelta doctor --repair"

Result = TypeVar("Result")


class Connection:
    """A workspace's connection to MLflow.

    Attributes:
        experiment_id: of the experiment that new runs belong to, from the first call on.
        failure: the first failed call, in one line without passwords; None if all went well so far.
    """

    def __init__(self, workspace: Workspace, report: Callable[[str], None]) -> None:
        """Connect to nothing yet.

        Args:
            report: gets one line at the first failure.
        """
        self.workspace = workspace
        self.experiment_id = ""
        self.failure: str | None = None
        self._report = report
        self._client: MlflowClient | None = None

    @property
    def uri(self) -> str:
        """MLflow's tracking URI."""
        return self.workspace.tracking_uri or f"sqlite:///{self.workspace.root / 'mlflow.db'}"

    @property
    def is_local(self) -> bool:
        """Whether MLflow's store lies in the workspace, not on a server that the user named."""
        return self.workspace.tracking_uri is None

    @property
    def shown_uri(self) -> str:
        """The tracking URI without a password."""
        return hide_password(self.uri)

    def attempt(self, call: Callable[["MlflowClient"], Result], then: str = LOG_LATER) -> Result | None:
        """Make one MLflow call; after a first failure none is made.

        Args:
            then: consequence of a failure for the work, and the next command.
        """
        if self.failure is not None:
            return None
        try:
            return call(self._open())
        except Exception as error:  # noqa: BLE001 whatever MLflow raises, the work goes on
            # MLflow's messages hold the server's address as it was configured, password and all.
            message = redact(str(error), [self.uri]).strip()
            reason = (message.splitlines() or [type(error).__name__])[0][:160]
            self.failure = f"MLflow failed ({type(error).__name__}: {reason})"
            self._report(f"{self.failure}; {then}")
            return None

    def make_store(self) -> None:
        """Make MLflow's tables, and nothing in them."""
        with quiet(), locked_file(self.workspace.root / ".jsdelta.lock"):
            from mlflow import MlflowClient

            MlflowClient(tracking_uri=self.uri).search_experiments(max_results=1)

    def folder_of(self, artifact_uri: str) -> Path | None:
        """Return a run's artifact folder, if it lies in the workspace."""
        parsed = urlparse(artifact_uri)
        path = Path(url2pathname(parsed.path)) if parsed.scheme in ("", "file") and parsed.path else None
        return path if path and path.is_relative_to(self.workspace.root) else None

    def _open(self) -> "MlflowClient":
        if self._client is None:
            with quiet(), locked_file(self.workspace.root / ".jsdelta.lock"):
                from mlflow import MlflowClient

                client = MlflowClient(tracking_uri=self.uri)
                self.experiment_id = self._find_experiment(client)
                self._client = client
        return self._client

    def _find_experiment(self, client: "MlflowClient") -> str:
        """Return our experiment: a server's first, locally the one whose artifacts lie in this workspace.

        MLflow stores absolute folders, so a workspace that was moved goes on in a new experiment.
        """
        # MLflow's own default folder is relative to where it is called from, which need not be ours.
        location = self.workspace.runs_dir.as_uri() if self.is_local else None
        found = list_experiments(client)
        for experiment in found:
            if experiment.lifecycle_stage == "active" and location in (experiment.artifact_location, None):
                return str(experiment.experiment_id)
        name = EXPERIMENT if not found else f"{EXPERIMENT}-{len(found) + 1}"
        # Else the UI guesses from the first run, and may open its pages for language models.
        kind = {"mlflow.experimentKind": "custom_model_development"}
        return str(client.create_experiment(name, artifact_location=location, tags=kind))


class NullConnection(Connection):
    """A connection without MLflow behind it: runs have a folder each and no id, and nothing is logged."""

    def __init__(self, workspace: Workspace) -> None:
        super().__init__(workspace, lambda line: None)

    def attempt(self, call: Callable[["MlflowClient"], Result], then: str = LOG_LATER) -> Result | None:
        """Make no call."""
        del call, then
        return None

    def make_store(self) -> None:
        """Make nothing."""


def list_experiments(client: "MlflowClient") -> list["Experiment"]:
    """Return jsdelta's experiments, the oldest first; deleted ones keep their names, and count."""
    from mlflow.entities import ViewType

    found = client.search_experiments(
        view_type=ViewType.ALL, filter_string=f"name LIKE '{EXPERIMENT}%'", order_by=["creation_time ASC"]
    )
    return list(found)
