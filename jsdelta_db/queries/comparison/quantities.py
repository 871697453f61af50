"""Quantities: the numbers that are compared, each a fraction of rows on either side."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from jsdelta_db.queries.comparison.request import EQUAL_SUCCESS, FRACTION, NON_BUG_RATE, RATE

Floats = NDArray[np.float64]


class Sums(NamedTuple):
    """Attempts of one side at each unit, ``(units,)``: all, the successful, the bugs.

    NaN where nobody is left to tell bugs.
    """

    attempted: Floats
    success: Floats
    bugs: Floats


class Rows(NamedTuple):
    """Rows of one side at each unit, ``(units,)``: those that hit, and all."""

    hits: Floats
    trials: Floats

    @property
    def value(self) -> float:
        """The fraction; NaN without rows."""
        total = self.trials.sum()
        return float(self.hits.sum() / total) if total else np.nan


def rows_of(quantity: str, own: Sums, other: Sums) -> Rows:
    """Return the rows of one side that make up a quantity.

    At equal success they are pairs, one success of each side on the same unit, so that both sides count the
    same units with the same weights.
    """
    if quantity == EQUAL_SUCCESS:
        return Rows(own.bugs * other.success, own.success * other.success)
    hits = own.success - own.bugs if quantity == NON_BUG_RATE else own.bugs
    return Rows(hits, own.success if quantity == FRACTION else own.attempted)


# The names of a quantity's columns: of both sides, and of the difference.
COLUMNS = {
    FRACTION: ("bug_fraction", "fraction_difference"),
    RATE: ("bug_rate", "rate_difference"),
    NON_BUG_RATE: ("non_bug_rate", "non_bug_rate_difference"),
    EQUAL_SUCCESS: ("", "equal_success_difference"),
}
