"""Which stored samples are looked at."""

import numpy as np
import pytest

from jsdelta_db.errors import UnknownNameError, UsageError
from jsdelta_db.samples.choice import SampleChoice, spread
from jsdelta_db.samples.stored_attack import StoredRows

CLASSES = ("cat", "dog", "0")
NAN = float("nan")


def rows(js_delta, success=None, source=None, target=None):
    n = len(js_delta)
    success = [True] * n if success is None else success
    source, target = source or [0] * n, target or [1] * n
    return StoredRows(
        np.arange(n), np.array(target), np.array(source), np.array(target), np.array(success, bool),
        np.ones(n), np.array(js_delta, dtype=np.float64),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, [0, 1, 2, 4]),
        ({"only_successes": False}, [0, 1, 2, 3, 4]),
        ({"bugs": 0.1}, [0]),
        ({"bugs": 0.1, "only_successes": False}, [0]),
        ({"features": 0.1}, [1, 2]),
        ({"source": "dog"}, [2]),
        ({"source": "1"}, [2]),
        ({"target": "0"}, [2, 4]),  # a name comes before a number
        ({"target": "dog", "features": 0.05}, [0, 1]),
    ],
)
def test_filter(settings, expected):
    """Bugs are strictly below, features from β up; failed samples and those without JSΔ are neither."""
    given = rows([0.05, 0.1, 2.0, 0.01, NAN], [1, 1, 1, 0, 1], source=[0, 0, 1, 0, 0], target=[1, 1, 2, 1, 2])
    assert np.flatnonzero(SampleChoice(**settings).matches(given, CLASSES)).tolist() == expected


@pytest.mark.parametrize(
    ("settings", "error", "fragment"),
    [
        ({"bugs": 0.1, "features": 0.1}, UsageError, "give one of them"),
        ({"bugs": 0.0}, UsageError, "out of range"),
        ({"features": float("inf")}, UsageError, "out of range"),
        ({"source": "bird"}, UnknownNameError, "unknown --source 'bird'; there is: cat, dog, 0"),
        ({"target": "3"}, UnknownNameError, "unknown --target '3'"),
        ({"target": "-1"}, UnknownNameError, "unknown --target '-1'"),
    ],
)
def test_filter_that_makes_no_sense(settings, error, fragment):
    """A threshold or label that cannot be says what is valid."""
    with pytest.raises(error, match=fragment):
        SampleChoice(**settings).matches(rows([0.1]), CLASSES)


@pytest.mark.parametrize(
    ("js_delta", "count", "expected"),
    [
        ([0.5, 0.1, 0.9, 0.3, 0.7], 3, [1, 0, 2]),
        ([0.5, 0.1, 0.9], 8, [1, 0, 2]),
        ([0.5, 0.1, 0.9], 2, [1, 2]),
        ([0.5, 0.1, 0.9], 1, [1]),
        ([NAN, 0.2, NAN, 0.1], 4, [3, 1]),
        ([NAN], 4, []),
        ([], 4, []),
    ],
)
def test_spread(js_delta, count, expected):
    """The lowest comes first, the highest last, the rest evenly between; rows without JSΔ are left out."""
    assert spread(np.array(js_delta), count).tolist() == expected
