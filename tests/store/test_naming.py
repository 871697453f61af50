"""Naming: a reference means a name, or a prefix of one uid."""

import subprocess
import sys

import pytest

from jsdelta_db.errors import UnknownNameError, UsageError
from jsdelta_db.store.naming import ANY_PREFIX, find_match, get_match, match, match_ensembles

NAMED = [
    ("digits", "aaaa01", 1),
    ("digits", "aaaa02", 2),
    ("aaaa", "bbbb03", 3),
    (None, "aaaacc", 4),
    (None, "cccc05", 5),
]


@pytest.mark.parametrize(
    ("reference", "shortest", "rows"),
    [
        ("digits", 4, [1, 2]),
        ("aaaa", 4, [3]),  # an exact name comes before any uid
        ("aaaa0", 4, [1, 2]),
        ("cccc", 4, [5]),
        ("cccc05", 4, [5]),
        ("ccc", 4, []),
        ("ccc", ANY_PREFIX, [5]),
        ("", ANY_PREFIX, []),
        ("cccc055", 4, []),
        ("%", ANY_PREFIX, []),
    ],
)
def test_match_prefers_a_name_to_a_prefix(reference, shortest, rows):
    """Rows of the exact name come alone; else those whose uid begins so, if the prefix is long enough."""
    assert match(reference, NAMED, shortest=shortest) == rows


@pytest.mark.parametrize(
    ("names", "rows"),
    [
        (["digits-epochs3"], ["digits-epochs3"]),
        (["digits-epochs3", "digits"], ["digits"]),
        (["digits-epochs3", "digits-sam"], []),
        (["digitsome"], []),
    ],
)
def test_a_recipe_names_its_only_ensemble(names, rows):
    """A name that says what differs need not be typed whole while there is no other; the exact name comes first."""
    assert match_ensembles("digits", [(name, "ffff", name) for name in names]) == rows


def test_one_row_or_none_or_an_error():
    """One match is returned; none is None or an UnknownNameError with what there is; several list uids."""
    assert (find_match("model", "cccc", NAMED), find_match("model", "nope", NAMED)) == (5, None)
    assert get_match("model", "bbbb", NAMED, ()) == 3
    with pytest.raises(UnknownNameError, match="unknown model 'nope'; there is: mine; see models list"):
        get_match("model", "nope", NAMED, ["mine"], hint="see models list")
    several = "model 'digits' names 2; give one by its uid: aaaa01, aaaa02"
    for find in (find_match, lambda *given: get_match(*given, ())):
        with pytest.raises(UsageError, match=several):
            find("model", "digits", NAMED)


def test_the_module_loads_without_sqlalchemy():
    """Queries on the fast path import it: SQLAlchemy takes longer to load than they take."""
    code = "import jsdelta_db.store.naming, sys; sys.exit('sqlalchemy' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
