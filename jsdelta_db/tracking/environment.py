"""Environment of a run: MLflow's own output silenced, user, commit."""

import getpass
import logging
import os
import subprocess
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

HTTP_LIMITS = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "8",  # seconds without a byte
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_ARTIFACT_UPLOAD_DOWNLOAD_TIMEOUT": "60",
}


@contextmanager
def quiet() -> Iterator[None]:
    """Silence the start-up lines of MLflow and Alembic."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    # A failure is an exception, reported in one line; MLflow would print its traceback, too.
    level = os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "CRITICAL")
    logging.getLogger("mlflow").setLevel(level.upper())  # where it was imported before
    # A server that is down must not hold the work up: MLflow's own defaults try for minutes.
    for name, value in HTTP_LIMITS.items():
        os.environ.setdefault(name, value)
    logging.getLogger("alembic").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def find_user() -> str:
    """Return the name of whoever runs this."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # no such user in a container
        return "unknown"


def find_commit() -> str | None:
    """Return the commit of the checkout in the current folder, if it is one."""
    try:
        shown = subprocess.run(
            ["git", "rev-parse", "HEAD"],
            capture_output=True,
            text=True,
            check=False,
            timeout=5,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return shown.stdout.strip() or None
