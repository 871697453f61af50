"""The metric: divergences, their baseline, and JSΔ."""

from jsdelta_db.metrics.baseline import ImageMeans, combine_baselines, compare_labels
from jsdelta_db.metrics.divergence import js_divergence
from jsdelta_db.metrics.scoring import score

__all__ = ["ImageMeans", "combine_baselines", "compare_labels", "js_divergence", "score"]
