"""Training: one straight-line loop; the methods differ only in their step."""

from jsdelta_db.compute.training.failures import explaining_failures
from jsdelta_db.compute.training.loop import Training, accuracy, train
from jsdelta_db.compute.training.overfitting import OverfittingWatch
from jsdelta_db.compute.training.preflight import check_fresh
from jsdelta_db.compute.training.resume import EpochMetrics, TrainingState
from jsdelta_db.compute.training.steps import METHODS, find_method

__all__ = [
    "METHODS", "EpochMetrics", "OverfittingWatch", "Training", "TrainingState", "accuracy",
    "check_fresh", "explaining_failures", "find_method", "train",
]  # fmt: skip
