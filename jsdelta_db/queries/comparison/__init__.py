"""Comparison: two sides of one question set side by side, paired by image, as ``query compare`` does."""

from jsdelta_db.queries.comparison.compare import Comparison, compare
from jsdelta_db.queries.comparison.request import MUST_AGREE, QUANTITIES, Request

__all__ = ["MUST_AGREE", "QUANTITIES", "Comparison", "Request", "compare"]
