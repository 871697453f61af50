"""Training: one straight-line loop; the methods differ only in their step."""

from jsdelta_db.compute.training.loop import accuracy, train
from jsdelta_db.compute.training.overfitting import OverfittingWatch
from jsdelta_db.compute.training.resume import EpochMetrics, Progress
from jsdelta_db.compute.training.steps import METHODS, find_method

__all__ = ["METHODS", "EpochMetrics", "OverfittingWatch", "Progress", "accuracy", "find_method", "train"]
