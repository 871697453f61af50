"""Judged attempts: the same from segments as from rows."""

import numpy as np
import pytest

from jsdelta_db.queries import judged as module
from jsdelta_db.queries.judged import read_judged
from jsdelta_db.queries.selection import list_evaluations
from jsdelta_db.store.reading import reading
from tests.queries.bench import ROWS, Bench


def _read(workspace, names, **chosen):
    """Return each evaluation's attempts in the order of their keys."""
    found = []
    with reading(workspace.db_url) as reader:
        for each in read_judged(reader, list_evaluations(reader), names, **chosen):
            order = np.lexsort((each.columns["requested_target"], each.columns["sample_index"]))
            found.append(each.pick(order))
    return found


@pytest.mark.parametrize("successes_only", [False, True])
def test_segments_and_rows_hold_the_same_attempts(successes_only, each_other, monkeypatch):
    """Whether columns come from segments or from rows, every attempt has the same values."""
    names = ["n_right"]
    of_segments = _read(each_other, names, successes_only=successes_only)
    monkeypatch.setattr(module, "BLOBS", ())
    of_rows = _read(each_other, names, successes_only=successes_only)
    assert sum(each.n for each in of_rows) > 100
    for one, two in zip(of_segments, of_rows, strict=True):
        assert one.columns.keys() == two.columns.keys()
        for name, column in one.columns.items():
            np.testing.assert_array_equal(column, two.columns[name])
        np.testing.assert_array_equal(one.place, two.place)


def test_baselines_stand_where_their_label_pair_is(each_other):
    """JSΔ is an attempt's mean divergence over the mean of its evaluators' baselines, those of its label pair."""
    for each in _read(each_other, ["member_js"]):
        defined = ~np.isnan(each.columns["js_delta"])
        rho = each.rho.members[each.place].mean(axis=1)
        js = each.columns["member_js"].astype(np.float64).mean(axis=1)
        np.testing.assert_allclose((js / rho)[defined], each.columns["js_delta"][defined], rtol=1e-5)


def test_what_a_store_lacks_is_absent(store):
    """Written by hand: no baselines, and fewer divergences than evaluators. Neither is invented."""
    Bench(store).judge(ROWS)
    with store.reading() as connection:
        (found,) = read_judged(connection, list_evaluations(connection), ["member_js"])
    assert (found.n, "member_js" in found.columns) == (len(ROWS), False)
    assert np.isnan(found.rho.members[found.place]).all()
