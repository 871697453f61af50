"""Values of facts: what is shown reads as what is stored."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jsdelta_db.queries.facts.conditions import Condition, apply_conditions
from jsdelta_db.queries.facts.keys import Fact, Kind
from jsdelta_db.queries.facts.values import join_values, show, split_values
from tests.property.strategies import BALL_SIZES


@given(st.lists(st.text(), min_size=1))
def test_a_list_reads_as_it_was_written(values):
    """Commas, quotes and spaces at an end are kept."""
    assert list(split_values(join_values(values))) == values


@given(BALL_SIZES)
def test_a_size_reads_as_it_is_shown(ball):
    """What a key's list shows of a size selects that size, in any norm."""
    norm, size = ball
    fact, row = Fact(Kind.SIZE, "", "norm"), {"norm": norm, "eps": size}
    wanted = Condition("eps", "=", (show(size, fact, row),))
    assert apply_conditions([row], [wanted], {"eps": fact}) == ([row], "")


@pytest.mark.parametrize(
    ("value", "kind"),
    [(None, Kind.TEXT), (True, Kind.FLAG), (0.05, Kind.NUMBER), (1e-9, Kind.NUMBER), (7, Kind.WHOLE)],
)
def test_a_value_reads_as_it_is_shown(value, kind):
    """So do numbers, flags and nothing."""
    fact, row = Fact(kind, ""), {"key": value}
    wanted = Condition("key", "=", (show(value, fact, row),))
    assert apply_conditions([row], [wanted], {"key": fact}) == ([row], "")
