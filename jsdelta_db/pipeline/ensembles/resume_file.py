"""Resume files: the state of a member's training in the workspace, from which a killed one goes on."""

import json
from dataclasses import asdict, dataclass

from jsdelta_db.config.locations import Workspace
from jsdelta_db.runtime.files import sha256_of, write_atomically
from jsdelta_db.store.schema import Model

FOLDER = ".training"


@dataclass(frozen=True, slots=True)
class StoppedTraining:
    """State of a training that was stopped.

    Attributes:
        content: of ``training.TrainingState``.
        run_id: of the MLflow run that logged it; None if there was none.
        folder: of that run's files, relative to the workspace.
        dtype: that it has inside; None where an earlier release did not say.
    """

    content: bytes
    run_id: str | None
    folder: str
    dtype: str | None = None


class ResumeFile:
    """One member's file: a line of JSON that names its training, then the content."""

    def __init__(self, workspace: Workspace, row: Model) -> None:
        self.path = workspace.root / FOLDER / f"{row.uid}.pt"
        self._config_hash = row.config_hash

    def read(self) -> StoppedTraining | None:
        """Return the state; None if there is none.

        Raises:
            ValueError: the file is damaged, or of another training.
        """
        if not self.path.is_file():
            return None
        first, _, content = self.path.read_bytes().partition(b"\n")
        header = json.loads(first)
        if not isinstance(header, dict):
            raise ValueError("no header")
        if (header.get("config_hash"), header.get("sha256")) != (self._config_hash, sha256_of(content)):
            raise ValueError("another training's, or altered")
        return StoppedTraining(content, header["run_id"], header["folder"], header.get("dtype"))

    def write(self, stopped: StoppedTraining) -> None:
        """Replace the file, whole or not at all."""
        facts = {name: value for name, value in asdict(stopped).items() if name != "content"}
        header = {"config_hash": self._config_hash, "sha256": sha256_of(stopped.content), **facts}
        write_atomically(self.path, json.dumps(header).encode() + b"\n" + stopped.content)

    def remove(self) -> None:
        """Forget it, once the member is finished."""
        self.path.unlink(missing_ok=True)
