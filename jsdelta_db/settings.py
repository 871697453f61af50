"""Where things are: a flag beats a ``JSDELTA_*`` variable, which beats the default."""

import os
from dataclasses import dataclass
from pathlib import Path

from jsdelta_db.addresses import hide_password
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


def resolve_workspace(folder: Path | None = None, data_dir: Path | None = None) -> Workspace:
    """Work out the workspace from flags, environment and defaults; creates nothing.

    Raises:
        UsageError: the workspace is not a folder.
    """
    root = (folder or Path(os.environ.get("JSDELTA_HOME") or ".")).expanduser().resolve()
    if root.exists() and not root.is_dir():
        raise UsageError(f"--workspace {root} is not a folder; give a folder (it is made where missing)")
    if "?" in str(root):
        raise UsageError(
            f"--workspace {root} holds a '?', which a database's address can not; choose another"
        )
    data = data_dir or Path(os.environ.get("JSDELTA_DATA_DIR") or root / "data")
    return Workspace(
        root=root,
        db_url=os.environ.get("JSDELTA_DB_URL") or f"sqlite:///{root / 'jsdelta.db'}",
        tracking_uri=os.environ.get("MLFLOW_TRACKING_URI") or None,
        data_dir=data.expanduser().resolve(),
    )


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting as it is now.

    Attributes:
        value: without passwords.
        source: the flag or the environment variable that it comes from, or ``default``.
    """

    setting: str
    value: str
    source: str


def describe_settings(folder: Path | None = None, data_dir: Path | None = None) -> list[Setting]:
    """Return each setting, its value and where it comes from; opens and creates nothing.

    Raises:
        UsageError: the workspace is not a folder.
    """
    workspace = resolve_workspace(folder, data_dir)
    tracking_uri = workspace.tracking_uri or f"sqlite:///{workspace.root / 'mlflow.db'}"
    debug = "yes" if os.environ.get("JSDELTA_DEBUG") else "no"
    return [
        Setting("workspace", str(workspace.root), _source("JSDELTA_HOME", "--workspace", folder)),
        Setting("store", hide_password(workspace.db_url), _source("JSDELTA_DB_URL")),
        Setting("mlflow", hide_password(tracking_uri), _source("MLFLOW_TRACKING_URI")),
        Setting("data", str(workspace.data_dir), _source("JSDELTA_DATA_DIR", "--data-dir", data_dir)),
        Setting("tracebacks", debug, _source("JSDELTA_DEBUG")),
    ]


def _source(variable: str, flag: str = "", given: Path | None = None) -> str:
    if given is not None:
        return flag
    return variable if os.environ.get(variable) else "default"
