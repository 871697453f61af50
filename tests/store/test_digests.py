"""Digests and packed columns: columns of later versions leave no trace where they are null."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jsdelta_db.store.digests import COVERED, LATER, add_up, digest_of, digest_of_rows
from jsdelta_db.store.packed import are_whole, join_unpacked, pack, unpack

FIRST = tuple(name for name in COVERED["score"] if name not in LATER)
# Of schema 0006, whose digests covered these columns alone.
OF_0006 = "1:8a21f9d44e9b1ac8"


def _columns(n: int = 5, evaluators: int = 3) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    columns = {name: rng.random(n) for name in COVERED["score"]}
    for name in ("member_js", "js_of_mean_without"):
        columns[name] = rng.random((n, evaluators)).astype(np.float32)
    return columns


def _rows(columns: dict[str, np.ndarray]) -> list[tuple]:
    lists = [pack(values) if values.ndim == 2 else values.tolist() for values in columns.values()]
    return list(zip(*lists, strict=True))


def test_rows_without_later_columns_have_the_digest_of_their_time():
    """Left out, null or NaN: the digest is the one that the rows had before there were such columns."""
    columns = _columns()
    before = {name: columns[name] for name in FIRST}
    rows = [row[: -len(LATER)] + (None,) * len(LATER) for row in _rows(columns)]
    no_values = {"n_right_adv": np.full(5, np.nan), "js_of_mean_without": np.empty((5, 0), np.float32)}
    assert digest_of("score", before) == OF_0006
    assert digest_of_rows("score", rows) == OF_0006
    assert digest_of("score", before | no_values) == OF_0006


def test_rows_with_and_without_later_columns_add_up():
    """Each row counts by itself: some may have been filled in and others not."""
    columns = _columns()
    rows = _rows(columns)
    mixed = [row[: -len(LATER)] + (None,) * len(LATER) if i % 2 else row for i, row in enumerate(rows)]
    assert digest_of_rows("score", rows) == digest_of("score", columns)
    assert digest_of_rows("score", mixed) == add_up(
        digest_of_rows("score", some) or "" for some in (mixed[::2], mixed[1::2])
    )
    assert len({digest_of_rows("score", each) for each in (rows, mixed)} | {OF_0006}) == 3


@pytest.mark.parametrize("name", LATER)
def test_a_value_that_is_gone_is_noticed(name):
    """Null in place of a value is another digest, in any row."""
    rows, place = _rows(_columns()), COVERED["score"].index(name)
    for i, row in enumerate(rows):
        altered = [*rows[:i], (*row[:place], None, *row[place + 1 :]), *rows[i + 1 :]]
        assert digest_of_rows("score", altered) != digest_of_rows("score", rows)


def test_rows_that_are_cut_short_have_no_digest():
    """A packed value of another length is none of ours."""
    rows = _rows(_columns())
    for name in ("member_js", "js_of_mean_without"):
        place = COVERED["score"].index(name)
        altered = [(*rows[0][:place], rows[0][place][:-1], *rows[0][place + 1 :]), *rows[1:]]
        assert digest_of_rows("score", altered) is None


@given(st.lists(st.one_of(st.none(), st.lists(st.floats(0, 1, width=32), min_size=2, max_size=2))))
def test_packed_values_come_back(rows):
    """What was packed is unpacked, NaN where there was none; in parts and whole alike."""
    packed = [None if row is None else pack(np.array([row], np.float32))[0] for row in rows]
    found = unpack(packed)
    assert are_whole(packed)
    assert found.shape == (len(rows), 2 if any(rows) else 0)
    for row, values in zip(rows, found.tolist(), strict=True):
        assert values == row if row is not None else np.isnan(values).all()
    parts = join_unpacked([unpack([each]) for each in packed])
    np.testing.assert_array_equal(parts, found)
