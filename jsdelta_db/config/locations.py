"""Locations: the workspace and its addresses, from flags, environment variables and defaults."""

import os
import sys
from dataclasses import dataclass
from pathlib import Path

from jsdelta_db.errors import UsageError


@dataclass(frozen=True, slots=True)
class Workspace:
    """The folder that holds the store and MLflow's files, and the addresses of both.

    Attributes:
        root: absolute path; every stored file path is relative to it.
        db_url: SQLAlchemy URL of the store.
        tracking_uri: MLflow tracking server, or None for ``mlflow.db`` in the workspace.
        data_dir: folder with the data sets that are not embedded.
    """

    root: Path
    db_url: str
    tracking_uri: str | None
    data_dir: Path

    @property
    def runs_dir(self) -> Path:
        """Folder of the artifacts, where MLflow itself puts it."""
        return self.root / "mlruns"


def config_folder() -> Path:
    """Return the folder for what is kept per user and machine (JSDELTA_CONFIG_DIR)."""
    given = os.environ.get("JSDELTA_CONFIG_DIR")
    if given:
        return Path(given)
    shared = Path(os.environ.get("XDG_CONFIG_HOME") or "")
    if not shared.is_absolute():  # unset, or not as its specification wants it
        try:
            shared = Path.home() / ("Library/Application Support" if sys.platform == "darwin" else ".config")
        except RuntimeError:  # a user without a home keeps nothing
            shared = Path("/nonexistent")
    return shared / "jsdelta"


def resolve_workspace(folder: Path | None = None, data_dir: Path | None = None) -> Workspace:
    """Return the workspace; creates nothing.

    A flag beats a ``JSDELTA_*`` variable, which beats the default.

    Raises:
        UsageError: the workspace is not a folder.
    """
    root = (folder or Path(os.environ.get("JSDELTA_HOME") or ".")).expanduser().resolve()
    if root.exists() and not root.is_dir():
        raise UsageError(f"--workspace {root} is not a folder; give a folder (it is made where missing)")
    if "?" in str(root):
        raise UsageError(f"--workspace {root} holds a '?', which a database's address cannot; choose another")
    data = data_dir or Path(os.environ.get("JSDELTA_DATA_DIR") or root / "data")
    return Workspace(
        root=root,
        db_url=os.environ.get("JSDELTA_DB_URL") or f"sqlite:///{root / 'jsdelta.db'}",
        tracking_uri=os.environ.get("MLFLOW_TRACKING_URI") or None,
        data_dir=data.expanduser().resolve(),
    )
