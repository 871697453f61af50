"""Statistics: 95 % intervals of fractions, ratios and differences, over images and over models.

Rows of one image are no independent draws (targets, ε, attacked models), nor are models that judge each
other, so images and models are what intervals count. In NumPy alone, so that queries start fast.
"""

from jsdelta_db.queries.statistics.fractions import Share, shares, shares_of_rows, wilson
from jsdelta_db.queries.statistics.means import (
    Estimate,
    difference_of_means,
    matched_difference,
    ratio_of_means,
)
from jsdelta_db.queries.statistics.models import OfModels, Unit, spread_over_models
from jsdelta_db.queries.statistics.student import t_quantile, t_tail

__all__ = [
    "Estimate",
    "OfModels",
    "Share",
    "Unit",
    "difference_of_means",
    "matched_difference",
    "ratio_of_means",
    "shares",
    "shares_of_rows",
    "spread_over_models",
    "t_quantile",
    "t_tail",
    "wilson",
]
