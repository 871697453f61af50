"""Training: one straight-line loop; the methods differ only in their step."""

from jsdelta_db.training.loop import accuracy, train
from jsdelta_db.training.progress import EpochMetrics, OverfittingWatch, Progress
from jsdelta_db.training.steps import METHODS, find_method

__all__ = ["METHODS", "EpochMetrics", "OverfittingWatch", "Progress", "accuracy", "find_method", "train"]
