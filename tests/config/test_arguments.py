"""Arguments for a user's callable: values as JSON or Python write them."""

import pytest

from jsdelta_db.config.arguments import parse_arguments
from jsdelta_db.errors import UsageError


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("10", 10), ("-0.5", -0.5), ("1e-3", 1e-3), ("true", True), ("True", True), ("false", False),
        ("False", False), ("null", None), ("None", None), ("[1, 2]", [1, 2]), ('{"a": 1}', {"a": 1}),
        ('"10"', "10"), ("wide", "wide"), ("", ""), ("a=b", "a=b"), ("NaN", "NaN"), ("1e999", "1e999"),
        ("DEFAULT", "DEFAULT"), ("[1,", "[1,"),
    ],
)  # fmt: skip
def test_values_are_read_as_they_are_written(text, value):
    """A number is a number and False is false, in JSON's and in Python's writing; all else is text."""
    (found,) = parse_arguments([f"key={text}"]).values()
    assert (found, type(found)) == (value, type(value))


def test_every_argument_is_kept_in_order():
    """Several options make one set of arguments."""
    assert list(parse_arguments(["width=64", "name=wide"]).items()) == [("width", 64), ("name", "wide")]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["width"], "--set 'width' is not valid: must be key=value, such as width=64"),
        (["=64"], "--set '=64' is not valid"),
        (["my width=64"], "--set 'my width=64' is not valid"),
        (["width=64", "width=32"], "--set width is given twice; give it once"),
    ],
    ids=str,
)
def test_what_is_no_argument_is_refused(given, message):
    """One line that shows how it is written."""
    with pytest.raises(UsageError, match=message):
        parse_arguments(given)
