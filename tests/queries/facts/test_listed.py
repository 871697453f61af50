"""Listed rows: filtered by the columns that they show."""

import pytest

from jsdelta_db.errors import UnknownNameError
from jsdelta_db.queries.facts.listed import filter_rows

KEYS = ("name", "uid", "seed", "method", "clean_accuracy", "robust_eps", "robust_norm", "ensembles")
ROWS = [
    dict(zip(KEYS, values, strict=True))
    for values in (
        ("digits", "db99e8ec00000000", 0, "standard", 0.97, 4 / 255, "linf", "digits twin"),
        ("digits", "a8dbb2cc00000000", 1, "sam", None, None, None, "digits"),
        (None, "ffff000000000000", 1, "sam", 0.5, None, None, None),
    )
]


@pytest.mark.parametrize(
    ("where", "places"),
    [
        (["name=digits"], [0, 1]),
        (["name=digits@db99e8ec"], [0]),
        (["uid=a8db"], [1]),
        (["seed<1"], [0]),
        (["model_seed=1", "clean_accuracy>0.4"], [2]),
        (["clean_accuracy=none"], [1]),
        (["robust_eps=4"], [0]),
        (["ensembles=twin"], [0]),
        (["ensembles=digits twin"], [0]),
    ],
)
def test_rows_are_filtered_by_their_columns(where, places):
    """Columns hold numbers, names, uids and sizes, and are asked for as such."""
    assert filter_rows(ROWS, KEYS, where) == ([ROWS[place] for place in places], "")


def test_an_empty_list_has_a_reason():
    """The column that left nothing is named with what it holds."""
    reason = "--where method=standard leaves nothing; method is sam here"
    assert filter_rows(ROWS, KEYS, ["seed=1", "method=standard"]) == ([], reason)


@pytest.mark.parametrize("where", ["sead=1", "method=sma", "name=digits@ffff", "uid=0"])
def test_what_no_row_has_is_refused(where):
    """An unknown column or name lists what there is."""
    with pytest.raises(UnknownNameError, match="; there is: "):
        filter_rows(ROWS, KEYS, [where])
