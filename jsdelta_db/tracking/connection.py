"""MLflow connection of a workspace: opened at the first call, and given up at the first failure."""

import os
import sqlite3
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import unquote_to_bytes, urlparse

from jsdelta_db.config.locations import Workspace, sqlite_url
from jsdelta_db.runtime.files import locked_file
from jsdelta_db.runtime.patience import Limit, LimitedCalls, NoAnswerError
from jsdelta_db.runtime.redaction import hide_password, redact
from jsdelta_db.tracking.address import find_address
from jsdelta_db.tracking.environment import quiet
from jsdelta_db.tracking.experiments import find_experiment, list_experiments
from jsdelta_db.tracking.own_store import prepare_file

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Experiment

LOCK = ".jsdelta.lock"  # beside MLflow's file
LOG_LATER = "results are stored all the same, log them later with jsdelta doctor --repair"

SERVER = Limit(20, tell=5)
FILE = Limit(90, tell=30)  # on a busy machine; MLflow itself gives up one that is locked
UPLOAD = Limit(86_400, tell=86_400)  # as long as it takes: MLflow's own limits notice a silent server
CLOSING = Limit(2, tell=2)  # of a run that was interrupted: whoever waits wants to go

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
            report: gets one line at the first failure, and one while an answer is waited for.
        """
        self.workspace = workspace
        self.experiment_id = ""
        self.failure: str | None = None
        self._report = report
        self._client: MlflowClient | None = None
        self._calls = LimitedCalls("jsdelta-mlflow")

    @property
    def uri(self) -> str:
        """MLflow's tracking URI."""
        return self.workspace.tracking_uri or sqlite_url(self.workspace.mlflow_file)

    @property
    def is_local(self) -> bool:
        """Whether MLflow's store lies in the workspace, not on a server that the user named."""
        return self.workspace.tracking_uri is None

    @property
    def shown_uri(self) -> str:
        """The tracking URI without a password."""
        return hide_password(self.uri)

    def attempt(
        self,
        call: Callable[["MlflowClient"], Result],
        then: str = LOG_LATER,
        limit: Limit | None = None,
    ) -> Result | None:
        """Make one MLflow call; after a first failure none is made.

        Args:
            then: consequence of a failure for the work, and the next command.
            limit: on the wait for an answer; None for the usual one.
        """
        if self.failure is not None:
            return None
        try:
            client = self._client or self._open()
            return self._calls.make(lambda: call(client), limit or self._usual_limit, self._tell)
        except Exception as error:  # noqa: BLE001 whatever MLflow raises, the work goes on
            self.failure = f"MLflow failed ({self._explain(error)})"
            self._report(f"{self.failure}; {then}")
            return None

    def make_store(self) -> None:
        """Make MLflow's tables, and nothing in them."""
        file = self.workspace.mlflow_file
        with quiet(), locked_file(file.with_name(LOCK)):
            prepare_file(file)

    def experiments(self, client: "MlflowClient") -> list["Experiment"]:
        """Return our experiments in this store, the oldest first."""
        return list_experiments(client, self._location)

    def folder_of(self, artifact_uri: str) -> Path | None:
        """Return a run's artifact folder, if it lies in the workspace."""
        parsed = urlparse(artifact_uri)
        is_file = parsed.scheme in ("", "file") and parsed.path
        path = Path(os.fsdecode(unquote_to_bytes(parsed.path))) if is_file else None
        return path if path and path.is_relative_to(self.workspace.root) else None

    @property
    def _location(self) -> str | None:
        # MLflow's own default folder is relative to where it is called from, which need not be ours.
        return self.workspace.runs_dir.as_uri() if self.is_local else None

    def _tell(self) -> None:
        self._report(f"waiting for MLflow at {self.shown_uri}, which does not answer")

    def _explain(self, error: Exception) -> str:
        if isinstance(error, NoAnswerError | sqlite3.Error):
            return f"{self.shown_uri}: {error}"
        # MLflow's messages hold the server's address as it was configured, password and all.
        message = redact(str(error), [self.uri]).strip()
        reason = (message.splitlines() or [type(error).__name__])[0][:160]
        return f"{type(error).__name__}: {reason}"

    def _open(self) -> "MlflowClient":
        with quiet():
            from mlflow import MlflowClient  # noqa: F401 takes seconds, in which nobody is waited for

            self._client = self._calls.make(self._connect, self._usual_limit, self._tell)
        return self._client

    @property
    def _usual_limit(self) -> Limit:
        return SERVER if self._file is None else FILE

    @property
    def _file(self) -> Path | None:
        """MLflow's SQLite file; None where its store is a server's."""
        if self.is_local:
            return self.workspace.mlflow_file
        from sqlalchemy import make_url

        named = make_url(self.uri).database if self.uri.startswith("sqlite:///") else None
        return Path(named).absolute() if named and named != ":memory:" else None

    def _connect(self) -> "MlflowClient":
        """Return a client, once our experiment is there; one process at a time makes a file."""
        from mlflow import MlflowClient

        file = self._file
        with nullcontext() if file is None else locked_file(file.with_name(LOCK)):
            if file is not None and prepare_file(file):
                self._report(f"{file} was unfinished and held no runs; its tables were made again")
            client = MlflowClient(tracking_uri=find_address(file) if file and self.is_local else self.uri)
            self.experiment_id = find_experiment(client, self._location)
        return client


class NullConnection(Connection):
    """A connection without MLflow behind it: runs have a folder each and no id, and nothing is logged."""

    def __init__(self, workspace: Workspace) -> None:
        super().__init__(workspace, lambda line: None)

    def attempt(
        self,
        call: Callable[["MlflowClient"], Result],
        then: str = LOG_LATER,
        limit: Limit | None = None,
    ) -> Result | None:
        """Make no call."""
        del call, then, limit
        return None
