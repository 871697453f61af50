"""Tracking, the only importer of MLflow: runs, metrics, figures, and the folders of their files.

A failed MLflow call never fails or undoes the work: the run goes on unlogged, one line reports it, and
``jsdelta doctor --repair`` logs it later from the store.
"""

from jsdelta_db.tracking.connection import Connection, NullConnection
from jsdelta_db.tracking.experiments import EXPERIMENT
from jsdelta_db.tracking.run_log import FAILED, FINISHED, KILLED, RunLog
from jsdelta_db.tracking.tracker import Tracker

__all__ = ["EXPERIMENT", "FAILED", "FINISHED", "KILLED", "Connection", "NullConnection", "RunLog", "Tracker"]
