"""``jsdelta query pairs|histogram|quantiles``: the commands around the questions."""

import pytest

from tests.cli.calls import call, query_json, refused, words


def test_histogram_adds_up(tiny, capsys):
    """The bins of a group hold all its successes, those below β the bugs of query bugs; people read no null."""
    rows, _ = query_json(capsys, tiny, "histogram", "--bins", "5", "--beta", "0.3", "--by", "eps")
    bugs, _ = query_json(capsys, tiny, "bugs", "--beta", "0.3", "--by", "eps")
    for group in bugs:
        of_group = [row for row in rows if row["eps"] == group["eps"]]
        assert sum(row["n"] for row in of_group) == group["n_success"]
        assert sum(row["n"] for row in of_group if row["js_delta_from"] < 0.3) == group["n_bugs"]
        assert [row["js_delta_to"] for row in of_group][-1] is None
    code, out, err = call(capsys, tiny, "query", "histogram", "--eps", "8")
    assert (code, "None" in out) == (0, False)
    assert "95 % intervals over images" in err


def test_quantiles_take_lists(tiny, capsys):
    """--q takes several, by comma and repeated; the default has five."""
    rows, _ = query_json(capsys, tiny, "quantiles", "--q", "0.1,0.5", "--q", "0.9", "--by", "eps")
    assert [row["q"] for row in rows] == [0.1, 0.5, 0.9] * 2
    assert all(row["js_delta_low"] <= row["js_delta"] for row in rows)
    assert len(query_json(capsys, tiny, "quantiles", "--eps", "8")[0]) == 5


def test_pairs_as_rows_and_as_a_matrix(tiny, capsys):
    """The matrix has the same fractions as the rows, a row for each source label."""
    rows, _ = query_json(capsys, tiny, "pairs", "--eps", "8", "--beta", "0.2", "--by", "eps")
    matrix, _ = query_json(capsys, tiny, "pairs", "--eps", "8", "--beta", "0.2", "--by", "eps", "--pivot")
    cells = {
        (line["source_label"], label): line[label]
        for line in matrix
        for label in map(str, range(10))
        if label in line
    }
    known = {pair: fraction for pair, fraction in cells.items() if fraction is not None}
    assert known == {(row["source_label"], row["target_label"]): row["bug_fraction"] for row in rows}
    code, out, _ = call(capsys, tiny, "query", "pairs", "--eps", "8", "--pivot")
    assert code == 0
    assert "source label" in out


@pytest.mark.parametrize(
    ("arguments", "fragment"),
    [
        (["quantiles", "--q", "many"], "'many' is not a number"),
        (["quantiles", "--q", "0"], "out of range"),
        (["histogram", "--bins", "0"], "must be a whole number from 1 to 1000"),
        (["pairs", "--by", "source-label"], "leave it out"),
        (["pairs", "--beta", "-1"], "out of range"),
    ],
    ids=words,
)
def test_bad_input(arguments, fragment, tiny, capsys):
    """Each bad value gets one line that says what is valid."""
    refused(capsys, tiny, 2, fragment, "query", *arguments)
