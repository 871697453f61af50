"""Run log: the metrics, inputs and files of one run in MLflow, and the folder that holds its files.

A run's files are written straight into MLflow's folder in the workspace, and rows name them by paths
relative to it. With an MLflow server they stay in the workspace, and copies are logged to the server.
"""

import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from jsdelta_db.runtime.patience import Limit
from jsdelta_db.tracking.connection import CLOSING, UPLOAD, Connection
from jsdelta_db.tracking.experiments import find_run

if TYPE_CHECKING:
    from mlflow import MlflowClient

FINISHED, FAILED, KILLED = "FINISHED", "FAILED", "KILLED"


class RunLog:
    """One run.

    Attributes:
        run_id: MLflow's id; None if the run could not be logged.
        folder: where its files are written; MLflow's artifact folder if that is local.
    """

    def __init__(self, connection: Connection, run_id: str | None, folder: Path) -> None:
        self._connection = connection
        self.run_id = run_id
        self.folder = folder

    def _log(self, call: Callable[["MlflowClient", str], object], limit: Limit | None = None) -> None:
        """Log something; from a run that MLflow does not have (any more) on, nothing is logged in it."""
        run_id = self.run_id
        if run_id is None:
            return

        def log(client: "MlflowClient") -> bool:
            try:
                call(client, run_id)
            except Exception:
                if find_run(client, run_id) is not None:
                    raise
                return False
            return True

        if self._connection.attempt(log, limit=limit) is False:
            self.run_id = None

    @property
    def logged_id(self) -> str | None:
        """MLflow's id if all went well so far; stored in a row, so that a repair finds the others."""
        return None if self._connection.failure else self.run_id

    def metrics(self, values: Mapping[str, float | None], step: int = 0) -> None:
        """Log summary metrics; None values are left out."""

        def log(client: "MlflowClient", run_id: str) -> None:
            from mlflow.entities import Metric

            stamp = int(time.time() * 1000)
            given = [Metric(key, value, stamp, step) for key, value in values.items() if value is not None]
            client.log_batch(run_id, metrics=given)

        self._log(log)

    def dataset(self, *, name: str, digest: str, source: str, context: str) -> None:
        """Log a data set as the run's input."""

        def log(client: "MlflowClient", run_id: str) -> None:
            from mlflow.entities import Dataset, DatasetInput, InputTag

            data = Dataset(name=name, digest=digest, source_type="local", source=source)
            client.log_inputs(
                run_id, datasets=[DatasetInput(data, [InputTag("mlflow.data.context", context)])]
            )

        self._log(log)

    def file(self, path: Path, subfolder: str = "") -> None:
        """Make a file in the run's folder an artifact; nothing to do where that folder is MLflow's own."""
        if self._connection.is_local:
            return  # the folder is MLflow's own, or was before the workspace moved: nothing goes back there

        def log(client: "MlflowClient", run_id: str) -> None:
            uri = client.get_run(run_id).info.artifact_uri
            if self._connection.folder_of(uri) != self.folder:
                client.log_artifact(run_id, str(path), subfolder or None)

        self._log(log, UPLOAD)

    def copy_files(self, folder: Path) -> None:
        """Copy a folder's files into the run as artifacts."""

        def copy(client: "MlflowClient", run_id: str) -> None:
            if self._connection.is_local:
                shutil.copytree(folder, self.folder, dirs_exist_ok=True)  # MLflow's own, whatever its name
            else:
                client.log_artifacts(run_id, str(folder))

        self._log(copy, UPLOAD)

    def finish(self, status: str = FINISHED) -> None:
        """Close the run; that of stopped work at once or not at all."""
        limit = None if status == FINISHED else CLOSING
        self._log(lambda client, run_id: client.set_terminated(run_id, status), limit)

    @contextmanager
    def closing(self) -> Iterator["RunLog"]:
        """Close the run when a block ends: finished, failed, or killed if it was interrupted."""
        try:
            yield self
        except Exception:
            self.finish(FAILED)
            raise
        except BaseException:
            self.finish(KILLED)
            raise
        self.finish(FINISHED)
