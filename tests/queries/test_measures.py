"""Measures: against NumPy's median, and what they need."""

import numpy as np
import pytest

from jsdelta_db.queries.measures import MOST_SWAPPED, _middle


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 9, MOST_SWAPPED, MOST_SWAPPED + 1])
def test_middle_is_the_median(n):
    """The median of each row is NumPy's, for few and for many evaluators, also where values are equal."""
    values = np.random.default_rng(n).integers(0, 5, (200, n)) / 3
    np.testing.assert_allclose(_middle(list(values.T)), np.median(values, axis=1), rtol=1e-15)
