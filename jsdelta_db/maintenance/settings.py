"""Settings: the value of each one, and the flag or variable that it comes from."""

import os
from dataclasses import dataclass
from pathlib import Path

from jsdelta_db.config.locations import resolve_workspace
from jsdelta_db.runtime.redaction import hide_password
from jsdelta_db.tracking import NullConnection


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
    debug = "yes" if os.environ.get("JSDELTA_DEBUG") else "no"
    return [
        Setting("workspace", str(workspace.root), _source("JSDELTA_HOME", "--workspace", folder)),
        Setting("store", hide_password(workspace.db_url), _source("JSDELTA_DB_URL")),
        Setting("mlflow", NullConnection(workspace).shown_uri, _source("MLFLOW_TRACKING_URI")),
        Setting("data", str(workspace.data_dir), _source("JSDELTA_DATA_DIR", "--data-dir", data_dir)),
        Setting("tracebacks", debug, _source("JSDELTA_DEBUG")),
    ]


def _source(variable: str, flag: str = "", given: Path | None = None) -> str:
    if given is not None:
        return flag
    return variable if os.environ.get(variable) else "default"
