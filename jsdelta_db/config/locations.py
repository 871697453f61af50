"""Locations: the workspace and its addresses, from flags, environment variables and defaults.

A SQLite file's address is ``sqlite:///`` and the file's name as the system has it: nothing in it is quoted,
and nothing is decoded, so that a folder may have any name.
"""

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
    def mlflow_file(self) -> Path:
        """MLflow's own store, where no server is named."""
        return self.root / "mlflow.db"

    @property
    def runs_dir(self) -> Path:
        """Folder of the artifacts, where MLflow itself puts it."""
        return self.root / "mlruns"


def as_path(name: str, value: object) -> Path | None:
    """Return a folder that a caller names; None for None or nothing.

    Raises:
        UsageError: neither text nor a path.
    """
    if value is None or (isinstance(value, str) and not value):
        return None
    if not isinstance(value, str | Path):
        raise UsageError(f"{name} {value!r} is not valid: must be a folder's path")
    return Path(value)


def sqlite_url(file: Path) -> str:
    """Return the address of a SQLite file."""
    return f"sqlite:///{file}"


def sqlite_file(url: str) -> Path | None:
    """Return the file that an address names; None if it is not SQLite's, or names none."""
    scheme, found, name = url.partition(":///")
    is_file = found and scheme.partition("+")[0] == "sqlite" and name not in ("", ":memory:")
    return Path(name) if is_file else None


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
    root = _resolve(folder or Path(os.environ.get("JSDELTA_HOME") or "."), "--workspace")
    if root.exists() and not root.is_dir():
        raise UsageError(f"--workspace {root} is not a folder; give a folder (it is made where missing)")
    data = data_dir or Path(os.environ.get("JSDELTA_DATA_DIR") or root / "data")
    return Workspace(
        root=root,
        db_url=os.environ.get("JSDELTA_DB_URL") or sqlite_url(root / "jsdelta.db"),
        tracking_uri=os.environ.get("MLFLOW_TRACKING_URI") or None,
        data_dir=_resolve(data, "--data-dir"),
    )


def _resolve(folder: Path, option: str) -> Path:
    """Return a folder's absolute path.

    Raises:
        UsageError: there is none: the current folder is gone, the name is too long, or a home is unknown.
    """
    try:
        path = folder.expanduser().resolve()
        path.exists()
    except FileNotFoundError as error:  # of the current folder alone
        raise UsageError(
            f"the current folder was deleted; go to another one, or name {option} FOLDER"
        ) from error
    except (OSError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"{option} {str(folder)!r} is no folder: {reason}; choose another") from error
    return path
