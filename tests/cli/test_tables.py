"""Tables for people: aligned, folded only where a terminal is too narrow, fast."""

import sys

import pytest

from cli import tables

TITLES = ["name", "bugs / successes", "n"]
CELLS = [["plain", "0.083 [0.015, 0.354] *", "12"], ["é́ 数字", "–", "3"]]


def test_a_table_in_a_pipe_is_aligned_and_never_cut():
    """Numbers stand to the right, text to the left, wide letters take two columns and accents none."""
    assert tables.render_table(TITLES, CELLS, True) == (
        "name          bugs / successes   n\n"
        "plain   0.083 [0.015, 0.354] *  12\n"
        "é́ 数字                       –   3\n"
    )
    assert tables.render_table(TITLES, CELLS, False).splitlines()[0] == "plain   0.083 [0.015, 0.354] *  12"


@pytest.mark.parametrize("columns", [12, 24, 30])
def test_a_table_on_a_narrow_terminal_is_folded(columns, monkeypatch):
    """Every line fits, the heading is bold unless NO_COLOR is set, and no word is lost."""
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("NO_COLOR", "1")
    plain = tables.render_table(TITLES, CELLS[:1], True)
    assert max(map(len, plain.splitlines())) <= columns
    assert "".join(plain.split()).count("*") == 1
    monkeypatch.delenv("NO_COLOR")
    bold = tables.render_table(TITLES, CELLS[:1], True)
    assert bold.startswith("\033[1m")
    assert bold.replace("\033[1m", "").replace("\033[0m", "") == plain


def test_no_row_costs_more_than_a_few_calls(monkeypatch):
    """A table of thousands of rows is put together without a library that lays each cell out."""
    monkeypatch.setitem(sys.modules, "rich.table", None)
    monkeypatch.setitem(sys.modules, "rich.console", None)
    assert tables.render_table(TITLES, CELLS * 5_000, True).count("\n") == 10_001


@pytest.mark.parametrize(
    ("low", "high", "cell"), [(0.25, 0.75, "0.500 [0.250, 0.750] *"), (None, None, "0.500 [–] *")]
)
def test_an_interval_stands_beside_its_value(low, high, cell):
    """A value without bounds shows that it has none, and its mark stays."""
    row = {"bug_fraction": 0.5, "bug_fraction_low": low, "bug_fraction_high": high, "too_few": True}
    assert tables.format_cell(row, "bug_fraction", "linf") == cell
