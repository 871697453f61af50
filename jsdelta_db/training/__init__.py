"""Training: one straight-line loop; the methods differ only in their step."""

from jsdelta_db.training.loop import EpochMetrics, accuracy, train
from jsdelta_db.training.steps import METHODS, find_method

__all__ = ["METHODS", "EpochMetrics", "accuracy", "find_method", "train"]
