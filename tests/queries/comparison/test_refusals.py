"""Comparisons that are refused: sides that are unknown, the same, or that differ in more than what is compared."""

import pytest

from jsdelta_db.config.measures import Measuring
from jsdelta_db.errors import UnknownNameError, UsageError
from jsdelta_db.queries.comparison import Request, compare
from tests.queries.bench import ROWS, Bench
from tests.queries.comparison.test_compare import ask


@pytest.mark.parametrize(
    ("request_of", "error", "message"),
    [
        ({"by": ("method",), "baseline": "plain"}, UnknownNameError, "'plain'; there is: sam, standard"),
        ({"by": ("mehtod",), "baseline": "sam"}, UnknownNameError, "unknown --by 'mehtod'"),
        ({"by": ("norm",), "baseline": "linf"}, UsageError, "a comparison of a thing with itself"),
        ({"a": ("method=sam",), "b": ("method=sam",)}, UsageError, "a comparison of a thing with itself"),
        ({"a": ("method=sam",), "b": ("steps=40", "method=sam")}, UsageError, "with itself"),
        ({"a": ("method=sam",), "b": ("steps=40",)}, UsageError, "exclude each other"),
        ({"a": ("method=sam",)}, UsageError, "--a is given without --b"),
        ({"a": ("method=sam",), "b": ("steps=7",)}, UsageError, "steps is 40 here"),
        ({"a": ("method=sam",), "b": ("method",)}, UsageError, "--b 'method' is not valid"),
        ({"by": ("method",)}, UsageError, "without --baseline"),
        ({"baseline": "sam"}, UsageError, "--baseline needs --by KEY"),
        ({}, UsageError, "no sides are given"),
        ({"by": ("method",), "baseline": "sam", "a": ("eps=3",)}, UsageError, "in one way"),
        ({"by": ("method", "method"), "baseline": "sam"}, UsageError, "names a key twice"),
        ({"by": ("method",), "a": ("method=sam",), "b": ("method=standard",)}, UsageError, "leave it out"),
        ({"by": ("method",), "baseline": "sam", "allow": ("colour",)}, UnknownNameError, "'colour'"),
        ({"by": ("method",), "baseline": "sam", "quantity": "odds"}, UnknownNameError, "'odds'"),
        ({"by": ("method",), "baseline": "sam", "equivalence": 2.0}, UsageError, "between 0 and 1"),
        ({"by": ("method",), "baseline": "sam", "betas": (-1.0,)}, UsageError, "out of range"),
        ({"by": ("method",), "baseline": "sam", "betas": ()}, UsageError, "no β"),
    ],
)
def test_what_cannot_be_compared_is_refused(request_of, error, message, two_methods):
    """Sides that are unknown, empty, the same, or said twice are refused, with what there is."""
    with pytest.raises(error, match=message):
        ask(two_methods, Request(**request_of))


@pytest.mark.parametrize(
    ("facts", "key"),
    [
        ({"steps": 50}, "steps"), ({"target_rule": "next"}, "targets"), ({"images": 4}, "images"),
        ({"seed": 1}, "attack_seed"), ({"objective": "bug"}, "objective"),
    ],
)  # fmt: skip
def test_sides_that_differ_otherwise_are_refused(facts, key, store):
    """What must agree is named with both values, and may be allowed; then the row says so."""
    bench = Bench(store)
    bench.judge(ROWS, eps=3 / 255)
    bench.judge(ROWS, eps=8 / 255, **facts)
    asked = {"by": ("eps",), "baseline": "8", "measuring": Measuring(interval="images")}
    with store.reading() as reader:
        with pytest.raises(UsageError, match=f"differ in {key}: .*--allow {key}"):
            compare(reader, Request(**asked))
        (row,) = compare(reader, Request(**asked, allow=(key,))).rows
    assert f"the sides also differ in {key}" in row["warnings"]
