"""The metric: divergences, their baseline, and JSΔ."""

from jsdelta_db.metrics.baseline import combine_baselines, compare_labels
from jsdelta_db.metrics.divergence import js_divergence
from jsdelta_db.metrics.scoring import score
from jsdelta_db.metrics.temperature import fit_temperature

__all__ = ["combine_baselines", "compare_labels", "fit_temperature", "js_divergence", "score"]
