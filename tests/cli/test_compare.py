"""``jsdelta query compare``: what is printed, and bad input."""

import pytest

from jsdelta_db.queries.comparison.compare import COMPARED_KEYS
from tests.cli.calls import call, query_json, refused
from tests.queries.comparison.conftest import two_methods  # noqa: F401 a fixture

BY_METHOD = ("compare", "--by", "method", "--baseline", "standard", "--beta", "0.1")


def test_machines_get_every_key(capsys, two_methods):  # noqa: F811
    """JSON has the group's keys and those that are fixed, one object a row; who judged is all that a row pools."""
    rows, notes = query_json(capsys, two_methods, *BY_METHOD, "--eps", "3", "--eps", "8")
    assert [list(row) for row in rows] == [["norm", "eps", *COMPARED_KEYS]] * 2
    assert [(row["a"], row["b"], row["quantity"]) for row in rows] == [("sam", "standard", "fraction")] * 2
    assert all("over evaluators" in line for line in notes.splitlines() if line.startswith("pooled"))


def test_people_get_a_line_a_row(capsys, two_methods):  # noqa: F811
    """The table has both fractions, the difference with its interval and the verdict, of the quantity asked for."""
    options = ("--eps", "3", "--eps", "8", "--quantity", "non-bug-rate", "--equivalence", "0.9")
    code, out, err = call(capsys, two_methods, "query", *BY_METHOD, *options)
    assert code == 0
    assert "quantity non-bug-rate" in out.splitlines()[0]
    header, *rows = out.splitlines()[1:]
    assert header.split()[:5] == ["eps", "a", "of", "a", "of"]
    assert [row.split()[:2] for row in rows] == [["3/255", "sam"], ["8/255", "sam"]]
    assert all("[" in row and " yes " in row for row in rows)
    assert "95 % interval over images+models" in err


def test_an_empty_answer_has_its_reason(capsys, two_methods):  # noqa: F811
    """Where a condition leaves nothing, that is said, with what there is."""
    rows, notes = query_json(capsys, two_methods, *BY_METHOD, "--eps", "4")
    assert rows == []
    assert "leaves nothing" in notes


@pytest.mark.parametrize(
    ("arguments", "fragment"),
    [
        (("--by", "method", "--baseline", "plain"), "there is: sam, standard"),
        (("--by", "method"), "without --baseline"),
        ((), "no sides are given"),
        (("--a", "method=sam", "--b", "method=sam"), "a comparison of a thing with itself"),
        (("--a", "method=sam", "--b", "oops"), "--b 'oops' is not valid"),
        (("--by", "method", "--baseline", "sam", "--equivalence", "wide"), "between 0 and 1"),
        (("--by", "method", "--baseline", "sam", "--equivalence", "2"), "between 0 and 1"),
        (("--by", "method", "--baseline", "sam", "--quantity", "odds"), "unknown --quantity 'odds'"),
        (("--by", "method", "--baseline", "sam", "--allow", "colour"), "unknown --allow 'colour'"),
        (("--by", "method", "--baseline", "sam", "--beta", "x"), "not a number"),
        (("--by", "method", "--baseline", "sam"), "differ in n_evaluators"),
    ],
)
def test_bad_input_is_one_line(arguments, fragment, capsys, two_methods):  # noqa: F811
    """What cannot be compared is refused with what is allowed."""
    refused(capsys, two_methods, 2, fragment, "query", "compare", *arguments)
