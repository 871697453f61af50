"""What ``query controls`` and ``query assumptions`` show, on small stores made by hand."""

import pytest

from jsdelta_db.config.controls import ASSUMPTIONS, CONTROLS
from jsdelta_db.queries.controls import (
    ASSUMPTION_KEYS,
    CONTROL_KEYS,
    explain_controls,
    explain_failures,
    query_assumptions,
    query_controls,
    summarize_controls,
)
from jsdelta_db.queries.selection import Selection
from jsdelta_db.store.schema import PENDING, ControlResult
from tests.queries.bench import ROWS, Bench
from tests.stores import ENGINES, new_store

STORED = [  # name, value, low, high, passed
    ("follows_attacked", 0.8, None, 0.5, False),
    ("evaluator_accuracy", 0.9, 0.2, None, True),
    ("agreement_label", 0.98, None, None, None),
    ("clean_pairs", 1.2, 0.9, 1.1, False),
    ("identity", 0.0, 0.0, 0.0, True),
    ("joint_attack", None, 0.9, 1.1, None),
    ("invariance_flip", 0.8, None, 0.1, False),
    ("invariance_noise", 0.001, None, 0.1, True),
]


@pytest.fixture(scope="module", params=ENGINES)
def checked(request, tmp_path_factory):
    """A store on each engine: an evaluation with outcomes, one with agreement alone, one not finished."""
    with new_store(request, tmp_path_factory.mktemp("checked")) as store:
        bench = Bench(store)
        full = bench.judge(ROWS)
        bare = bench.judge(ROWS, eps=8 / 255)
        half = bench.evaluate(bench.attack(ROWS, seed=1), ROWS, status=PENDING)
        with store.transaction() as session:
            for evaluation, stored in ((full, STORED), (bare, STORED[1:3]), (half, STORED)):
                for name, value, low, high, passed in stored:
                    session.add(
                        ControlResult(
                            evaluation_id=evaluation.id,
                            name=name,
                            value=value,
                            low=low,
                            high=high,
                            passed=passed,
                        )
                    )
        store.bare = bare.uid
        yield store


def _ask(store, query, **facts):
    with store.reading() as connection:
        return query(connection, Selection(**facts))


def test_controls_of_finished_evaluations_are_listed_in_their_order(checked):
    """What can fail first, identities apart; assumptions are left out; who lacks controls is named."""
    found = _ask(checked, query_controls)
    assert [
        tuple(row[key] for key in ("eps", "control", "kind", "value", "low", "high", "verdict"))
        for row in found.rows
    ] == [
        (3 / 255, "evaluator_accuracy", "test", 0.9, 0.2, None, "pass"),
        (3 / 255, "follows_attacked", "test", 0.8, None, 0.5, "fail"),
        (3 / 255, "clean_pairs", "test", 1.2, 0.9, 1.1, "fail"),
        (3 / 255, "joint_attack", "test", None, 0.9, 1.1, "shown"),
        (8 / 255, "evaluator_accuracy", "test", 0.9, 0.2, None, "pass"),
        (3 / 255, "identity", "identity", 0.0, 0.0, 0.0, "pass"),
    ]
    assert all({*CONTROL_KEYS} <= {*row} for row in found.rows)
    assert summarize_controls(found.rows) == [
        "controls: 2 of 4 pass; failed: follows_attacked, clean_pairs",
        "identities, which test the code alone: 1 of 1 pass",
    ]
    assert found.without == (checked.bare,)


def test_assumptions_are_agreement_and_invariance(checked):
    """Agreement is there for every evaluation; those whose invariance was not looked at are named."""
    found = _ask(checked, query_assumptions)
    assert [(row["eps"], row["assumption"], row["verdict"]) for row in found.rows] == [
        (3 / 255, "agreement_label", "shown"),
        (3 / 255, "invariance_flip", "fail"),
        (3 / 255, "invariance_noise", "pass"),
        (8 / 255, "agreement_label", "shown"),
    ]
    assert all({*ASSUMPTION_KEYS} <= {*row} for row in found.rows)
    assert found.without == (checked.bare,)


def test_selection_narrows_the_outcomes(checked):
    """Only what was asked for is listed, and only its gaps are named."""
    found = _ask(checked, query_controls, eps=(3 / 255,))
    assert (len(found.rows), found.without) == (5, ())
    assert len(_ask(checked, query_controls, eps=(8 / 255,)).rows) == 1


def test_two_evaluators_are_said_to_decide_nothing():
    """Where no verdict on copies is possible, a line says so once; else there is none."""
    undecided = {"control": "follows_attacked", "value": None}
    (line,) = explain_controls([undecided, undecided])
    assert line.startswith("follows_attacked: with fewer than three evaluators")
    assert explain_controls([{**undecided, "value": 0.1}, {"control": "joint_attack", "value": None}]) == []


def test_failures_are_explained_once_by_the_worst():
    """Each failed invariance is one line in plain words with its largest value; what passed needs none."""
    rows = [
        {"assumption": name, "value": value, "verdict": verdict}
        for name, value, verdict in [
            ("invariance_flip", 0.5, "fail"), ("invariance_flip", 0.8, "fail"), ("invariance_shift", 0.05, "pass"),
            ("agreement_label", 0.9, "shown"),
        ]
    ]  # fmt: skip
    (line,) = explain_failures(rows)
    assert line.startswith("JSΔ of flips is 0.80: these models were not trained to expect flips; ")


def test_order_knows_every_control():
    """Every control that can be run has its place in the order of the rows."""
    from jsdelta_db.compute.metrics.agreement import Agreement
    from jsdelta_db.pipeline.evaluation import controls

    agreement = [control.name for control in Agreement((0.9,), 0.2, 1.0, 0.0).as_controls()]
    assert {*controls.CONTROLS, *agreement} <= {*CONTROLS, *ASSUMPTIONS}
