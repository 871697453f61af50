"""The only importer of MLflow: runs, metrics, figures, and the folders their files go to.

A failed MLflow call never fails or undoes the work: the run goes on unlogged, one line says so, and
``jsdelta doctor --repair`` logs it later from the store.
"""

from jsdelta_db.tracking.run_log import FAILED, FINISHED, KILLED, RunLog
from jsdelta_db.tracking.tracker import EXPERIMENT, Tracker

__all__ = ["EXPERIMENT", "FAILED", "FINISHED", "KILLED", "RunLog", "Tracker"]
