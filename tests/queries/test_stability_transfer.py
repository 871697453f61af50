"""Stability and transfer by group, on small stores made by hand."""

from dataclasses import astuple

import numpy as np
import pytest

from jsdelta_db.errors import UsageError
from jsdelta_db.queries.selection import DEFAULT_KEYS, Selection
from jsdelta_db.queries.stability import STABILITY_KEYS, query_stability
from jsdelta_db.queries.statistics import difference_of_means, matched_difference, ratio_of_means, wilson
from jsdelta_db.queries.transfer import TRANSFER_KEYS, query_transfer
from jsdelta_db.store.schema import Model, Sample, Score
from tests.queries.bench import Bench
from tests.stores import ENGINES, new_store

IMAGES = np.arange(80)
JS_DELTA = np.where(IMAGES % 2, 0.5, 0.02)  # every other one is a bug
STABILITY = np.where(IMAGES % 2, 1.0, 0.25 + (IMAGES % 8) / 8)
CONFIDENCE = 0.5 + IMAGES % 7 / 20


def _set(store, attack, evaluation, **columns):
    """Give the rows of a judged attack values of their own, by image."""
    with store.transaction() as session:
        for table, key in ((Sample, {"attack_id": attack.id}), (Score, {"evaluation_id": evaluation.id})):
            for row in session.query(table).filter_by(**key):
                for name, values in columns.items():
                    if hasattr(row, name):
                        setattr(row, name, values[row.sample_index])


@pytest.fixture(scope="module", params=ENGINES)
def measured(request, tmp_path_factory):
    """A store on each engine: one attack with stabilities, one without, one that never succeeded."""
    with new_store(request, tmp_path_factory.mktemp("measured")) as store:
        bench = Bench(store)
        rows = [(int(i), 0, 1, 1, float(value)) for i, value in enumerate(JS_DELTA)]
        rows += [(90, 0, 1, 0, 0.001), (91, 0, 1, 1, None)]  # a failure, and one without a baseline
        attack = bench.attack(rows, eps=3 / 255)
        evaluation = bench.evaluate(attack, rows)
        padded = {
            name: dict(enumerate(values.tolist())) | {90: 1.0, 91: 1.0}
            for name, values in {
                "stability": STABILITY, "confidence": CONFIDENCE, "js": JS_DELTA / 2, "js_attacked": 0.5 + JS_DELTA,
            }.items()
        }  # fmt: skip
        counts = {"n_at_target": 0, "n_at_target_adv": {i: int(i) % 3 for i in range(92)}}
        counts["n_at_target"] = {i: int(i < 8) for i in range(92)}
        _set(store, attack, evaluation, **padded, **counts)
        bench.judge(rows, eps=5 / 255)
        bench.judge([(int(i), 0, 1, 0, 0.5) for i in IMAGES], eps=8 / 255)
        with store.transaction() as session:
            session.get_one(Model, bench.models[0].id).sharpness = 0.125
        yield store


def _ask(store, query, *arguments, **facts):
    with store.reading() as connection:
        return query(connection, *arguments, Selection(**facts))


def test_stability_compares_bugs_with_features(measured):
    """Means, plain and matched difference are those of the successes with a JSΔ and a stability."""
    found = _ask(measured, query_stability, [0.1])
    (row,) = found.table.rows
    assert tuple(row) == (*DEFAULT_KEYS, *STABILITY_KEYS)
    bug = JS_DELTA < 0.1
    assert (row["eps"], row["n_bugs"], row["n_features"], row["too_few"]) == (3 / 255, 40, 40, False)
    assert row["stability_bugs"] == STABILITY[bug].mean()
    assert row["stability_features"] == 1.0
    assert row["sharpness"] == 0.125
    for name, expected in {
        "difference": difference_of_means(STABILITY, bug, IMAGES),
        "matched_difference": matched_difference(STABILITY, bug, CONFIDENCE, IMAGES),
    }.items():
        cells = (row[name], row[f"{name}_low"], row[f"{name}_high"])
        assert cells == pytest.approx(astuple(expected), rel=1e-9)
        assert cells[2] < 0


@pytest.mark.parametrize(("beta", "bugs", "features"), [(0.02, 0, 80), (0.6, 80, 0)])
def test_one_kind_alone_has_no_difference(beta, bugs, features, measured):
    """Where all successes are of one kind the differences and the other mean are null, and the row is marked."""
    (row,) = _ask(measured, query_stability, [beta]).table.rows
    assert (row["n_bugs"], row["n_features"], row["too_few"]) == (bugs, features, True)
    assert row["difference"] is row["difference_low"] is row["matched_difference"] is None
    assert (row["stability_bugs"] is None) == (bugs == 0)
    assert (row["stability_features"] is None) == (features == 0)


def test_what_was_not_measured_is_named(measured):
    """Groups without a stability have no row; their attack is named, one without successes is not."""
    (uid,) = _ask(measured, query_stability, [0.1]).unmeasured
    found = _ask(measured, query_stability, [0.1], eps=(5 / 255,))
    assert (found.table.rows, found.unmeasured) == ([], (uid,))
    assert _ask(measured, query_stability, [0.1], eps=(8 / 255,)).unmeasured == ()


def test_each_beta_gives_a_row_of_stability(measured):
    """Several β give a row each, in the order asked; one that cannot be is refused."""
    assert [row["beta"] for row in _ask(measured, query_stability, [0.3, 0.1]).table.rows] == [0.3, 0.1]
    with pytest.raises(UsageError, match="must be a number above 0"):
        _ask(measured, query_stability, [0.0])


def test_transfer_counts_what_the_evaluators_share(measured):
    """The ratio is mean over mean; an evaluator at t, all of them, and at t before the attack are counted."""
    weak, _, failed = _ask(measured, query_transfer).rows
    assert tuple(weak) == (*DEFAULT_KEYS, *TRANSFER_KEYS)
    expected = ratio_of_means(JS_DELTA / 2, 0.5 + JS_DELTA, IMAGES)
    cells = tuple(weak[f"transfer_ratio{end}"] for end in ("", "_low", "_high"))
    assert cells == pytest.approx(astuple(expected), rel=1e-9)
    hits = {"transferred_any": 53, "transferred_all": 26, "already": 8}
    for name, n in hits.items():
        assert (weak[f"n_{name}"], weak[name]) == (n, n / 80)
        assert (weak[f"{name}_low"], weak[f"{name}_high"]) == wilson(n, 80)
    assert (weak["n_success"], weak["too_few"]) == (80, False)
    assert (failed["n_success"], failed["transfer_ratio"], failed["already"]) == (0, None, None)
    assert failed["too_few"] is True


def test_population_narrows_mechanism_and_transfer(measured):
    """With all-correct only images that both evaluators have right count: here none."""
    assert _ask(measured, query_stability, [0.1], population="all-correct").table.rows == []
    assert {row["n_success"] for row in _ask(measured, query_transfer, population="all-correct").rows} == {0}
