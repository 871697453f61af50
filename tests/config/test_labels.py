"""Labels as a user types them."""

import pytest

from jsdelta_db.config.labels import parse_label
from jsdelta_db.errors import UnknownNameError


def test_labels_are_read_by_name_before_number():
    """A label whose name is a number is that label, wherever it stands."""
    assert parse_label("--source", "0", ("1", "2", "0")) == 2
    assert parse_label("--source", "1", ["cat", "dog"]) == 1


@pytest.mark.parametrize("text", ["2", "-1", "²", "", "Cat"])
def test_an_unknown_label_lists_what_there_is(text):
    """Neither a name nor a number in range: the option, the rules it also takes, and every label."""
    with pytest.raises(
        UnknownNameError, match=r"unknown --targets .*; there is: random, cat, dog(; did you|$)"
    ):
        parse_label("--targets", text, ("cat", "dog"), rules=("random",))
