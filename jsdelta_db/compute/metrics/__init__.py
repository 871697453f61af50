"""The metric: divergences, their baseline, and JSΔ."""

from jsdelta_db.compute.metrics.baseline import combine_baselines, compare_labels
from jsdelta_db.compute.metrics.divergence import js_divergence
from jsdelta_db.compute.metrics.scoring import score
from jsdelta_db.compute.metrics.temperature import fit_temperature

__all__ = ["combine_baselines", "compare_labels", "fit_temperature", "js_divergence", "score"]
