"""Per-sample rows and baselines on their way in, on both engines."""

import dataclasses
import math

import numpy as np
import pytest
from sqlalchemy import func, select

from jsdelta_db.errors import StoreError
from jsdelta_db.records import Attempts, Baseline, Control, ImageMeans, Samples, Scores
from jsdelta_db.store.attempts import (
    count_without_stability,
    list_label_pairs,
    read_samples,
    write_samples,
    write_scores,
    write_stability,
)
from jsdelta_db.store.baselines import write_evaluation_baselines, write_model_baselines
from jsdelta_db.store.controls import list_controls, write_controls
from jsdelta_db.store.inserting import insert_rows
from jsdelta_db.store.schema import ControlResult, EvaluationBaseline, RhoBaseline, Sample, Score
from tests.stores import ENGINES, add_attack, add_dataset, add_evaluation, add_model, new_store

N = 4
ATTEMPTS = Attempts(  # image 11 towards two targets, and not in order of the index
    sample_index=np.array([30, 11, 11, 12]),
    source_label=np.array([0, 1, 1, 2]),
    requested_target=np.array([1, 0, 2, 3]),
)
SAMPLES = Samples(
    attempts=ATTEMPTS,
    target_label=np.array([1, 0, 2, 3]),
    success=np.array([True, False, True, True]),
    confidence=np.array([0.9, 1 / 3, 0.7, 1e-300]),
    linf=np.full(N, 3 / 255),
    l2=np.array([0.1, 0.2, 0.3, 0.4]),
    x=np.zeros((N, 1, 2, 2), np.float32),
    delta=np.zeros((N, 1, 2, 2), np.float16),
    clean_logits=np.zeros((N, 4), np.float32),
    logits=np.zeros((N, 4), np.float32),
)
SCORES = Scores(
    attempts=ATTEMPTS,
    js=np.array([0.1, 0.0, 0.3, 1.0]),
    js_of_mean=np.array([0.1, 0.0, 0.2, 0.9]),
    js_delta=np.array([0.2, 0.0, math.nan, 2.5]),
    js_attacked=np.array([0.9, 0.8, 0.7, 0.6]),
    n_right=np.array([2, 1, 2, 0]),
    n_at_target=np.array([0, 0, 0, 1]),
    n_at_target_adv=np.array([1, 0, 2, 2]),
    n_right_adv=np.array([1, 2, 0, 0]),
    member_js=np.array([[0.1, 0.2], [0.0, 0.5], [1 / 3, 0.25], [1.0, 0.125]], np.float32),
    js_of_mean_without=np.array([[0.2, 0.1], [0.5, 0.0], [0.25, 1 / 3], [0.125, 1.0]], np.float32),
    logits=np.zeros((2, N, 4), np.float32),
)


@pytest.fixture(scope="module", params=ENGINES)
def store(request, tmp_path_factory):
    """A store on each engine; every test makes an attack of its own."""
    with new_store(request, tmp_path_factory.mktemp("store")) as opened:
        yield opened


@pytest.fixture
def evaluation(store):
    """An evaluation without rows."""
    with store.transaction() as session:
        dataset = add_dataset(session)
        attacked_model, evaluator = (add_model(session, dataset, seed) for seed in (0, 1))
        return add_evaluation(session, add_attack(session, attacked_model), [evaluator])


def _rows(store, table, parent) -> list[tuple]:
    with store.transaction() as session:
        statement = select(table.__table__).where(parent).order_by("sample_index", "requested_target")
        return [tuple(row) for row in session.execute(statement)]


def _write_both(store, evaluation, samples=SAMPLES, scores=SCORES) -> None:
    with store.transaction() as session:
        write_samples(session, attack_id=evaluation.attack_id, samples=samples)
        write_scores(session, evaluation_id=evaluation.id, scores=scores)


def test_samples_are_stored_as_they_are(store, evaluation):
    """One row per attempt, with every value exact."""
    _write_both(store, evaluation)
    attack = evaluation.attack_id
    assert _rows(store, Sample, Sample.attack_id == attack) == [
        (attack, 11, 0, 1, 0, 0, 1 / 3, 3 / 255, 0.2, None, None),
        (attack, 11, 2, 1, 2, 1, 0.7, 3 / 255, 0.3, None, None),
        (attack, 12, 3, 2, 3, 1, 1e-300, 3 / 255, 0.4, None, None),
        (attack, 30, 1, 0, 1, 1, 0.9, 3 / 255, 0.1, None, None),
    ]


def test_scores_are_stored_as_they_are(store, evaluation):
    """One row per attempt; a JSΔ that is not defined is NULL; the members' numbers are float32 in order."""
    _write_both(store, evaluation)
    rows = _rows(store, Score, Score.evaluation_id == evaluation.id)
    assert [row[:10] for row in rows] == [
        (evaluation.id, 11, 0, 0.0, 0.0, 0.0, 0.8, 1, 0, 0),
        (evaluation.id, 11, 2, 0.3, 0.2, None, 0.7, 2, 0, 2),
        (evaluation.id, 12, 3, 1.0, 0.9, 2.5, 0.6, 0, 1, 2),
        (evaluation.id, 30, 1, 0.1, 0.1, 0.2, 0.9, 2, 0, 1),
    ]
    assert [row[11] for row in rows] == [2, 0, 0, 1]
    for place, values in ((10, SCORES.member_js), (12, SCORES.js_of_mean_without)):
        stored = [np.frombuffer(row[place], "<f4").tolist() for row in rows]
        assert stored == values[[1, 2, 3, 0]].tolist()


def test_written_again_nothing_changes(store, evaluation):
    """A chunk that is written twice keeps its first rows, and fails nothing."""
    _write_both(store, evaluation)
    first = [
        _rows(store, Sample, Sample.attack_id == evaluation.attack_id),
        _rows(store, Score, Score.evaluation_id == evaluation.id),
    ]
    _write_both(
        store,
        evaluation,
        dataclasses.replace(SAMPLES, success=~SAMPLES.success),
        dataclasses.replace(SCORES, js=SCORES.js / 2),
    )
    assert first == [
        _rows(store, Sample, Sample.attack_id == evaluation.attack_id),
        _rows(store, Score, Score.evaluation_id == evaluation.id),
    ]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"confidence": np.array([0.1, 0.2, math.nan, 0.4])}, r"sample\.confidence of image 11 is nan"),
        ({"linf": np.array([math.inf, 0.2, 0.3, 0.4])}, r"sample\.linf of image 30 is inf"),
        ({"l2": np.array([0.1, 0.2, 0.3, -math.inf])}, r"sample\.l2 of image 12 is -inf"),
    ],
)
def test_samples_that_are_not_finite_are_refused(changes, message, store, evaluation):
    """NaN stops at the border, with the column and the image named; no row of the chunk is kept."""
    with (
        pytest.raises(StoreError, match=f"{message}.*must be finite"),
        store.transaction() as session,
    ):
        write_samples(
            session, attack_id=evaluation.attack_id, samples=dataclasses.replace(SAMPLES, **changes)
        )
    assert _rows(store, Sample, Sample.attack_id == evaluation.attack_id) == []


@pytest.mark.parametrize("column", ["js", "js_of_mean", "js_attacked"])
def test_scores_that_are_not_finite_are_refused(column, store, evaluation):
    """Only JSΔ may be undefined; any other NaN is refused."""
    bad = dataclasses.replace(SCORES, **{column: np.array([0.1, math.nan, 0.1, 0.1])})
    with (
        pytest.raises(StoreError, match=rf"score\.{column} of image 11 is nan"),
        store.transaction() as session,
    ):
        write_scores(session, evaluation_id=evaluation.id, scores=bad)
    assert _rows(store, Score, Score.evaluation_id == evaluation.id) == []


@pytest.mark.parametrize(
    ("column", "bad"),
    [
        ("js_delta", np.array([0.1, math.inf, 0.1, 0.1])),
        ("member_js", np.array([[0.1, 0.1], [math.nan, 0.1], [0.1, 0.1], [0.1, 0.1]], np.float32)),
        ("js_of_mean_without", np.array([[0.1, 0.1], [0.1, math.inf], [0.1, 0.1], [0.1, 0.1]], np.float32)),
    ],
)
def test_infinite_js_delta_and_nan_of_a_member_are_refused(column, bad, store, evaluation):
    """Undefined is NaN alone: an infinite JSΔ or a member's NaN means that something went wrong."""
    with (
        pytest.raises(StoreError, match=rf"score\.{column} of image 11"),
        store.transaction() as session,
    ):
        write_scores(
            session, evaluation_id=evaluation.id, scores=dataclasses.replace(SCORES, **{column: bad})
        )


@pytest.mark.parametrize("order", [[0, 1, 2, 3], [3, 2, 1, 0], [2]])
def test_read_samples_returns_what_was_written_in_the_asked_order(order, store, evaluation):
    """A chunk that is only scored gets the values that were stored, attempt by attempt."""
    _write_both(store, evaluation)
    asked = Attempts(*(getattr(ATTEMPTS, name)[order] for name in Attempts.__slots__))
    with store.transaction() as session:
        stored = read_samples(
            session, attack_id=evaluation.attack_id, sample_index=asked.sample_index,
            requested_target=asked.requested_target,
        )  # fmt: skip
    assert stored.pop("source_label").tolist() == asked.source_label.tolist()
    assert sorted(stored) == ["confidence", "l2", "linf", "success", "target_label"]
    for name, values in stored.items():
        np.testing.assert_array_equal(values, getattr(SAMPLES, name)[order])
    assert stored["success"].dtype == np.bool_


def test_read_samples_misses_a_row(store, evaluation):
    """A row that is gone is named; nothing is made up in its place."""
    _write_both(store, evaluation)
    with pytest.raises(StoreError, match="image 12 towards 1 is missing"), store.transaction() as session:
        read_samples(
            session, attack_id=evaluation.attack_id, sample_index=np.array([30, 12]),
            requested_target=np.array([1, 1]),
        )  # fmt: skip


def test_stability_is_written_to_its_rows(store, evaluation):
    """Stability lands on the attempts it is of; those without are the successes that have none yet."""
    _write_both(store, evaluation)
    attack = evaluation.attack_id
    with store.transaction() as session:
        assert count_without_stability(session, attack_id=attack) == 3
        write_stability(
            session,
            attack_id=attack,
            attempts=ATTEMPTS.pick(np.array([0, 2])),
            stability=np.array([0.25, 1.0]),
        )
        assert count_without_stability(session, attack_id=attack) == 1
    rows = _rows(store, Sample, Sample.attack_id == attack)
    assert [(row[1], row[2], row[-2]) for row in rows] == [
        (11, 0, None), (11, 2, 1.0), (12, 3, None), (30, 1, 0.25),
    ]  # fmt: skip


def test_label_pairs_are_unordered_and_listed_once(store, evaluation):
    """The label pairs of an attack's samples, the lower label first."""
    _write_both(store, evaluation)
    with store.transaction() as session:
        pairs = list_label_pairs(session, attack_id=evaluation.attack_id)
    assert pairs == {(0, 1), (1, 2), (2, 3)}


def test_controls_are_stored_with_their_verdict(store, evaluation):
    """A value within its bounds passes, both ends included; without a value or a verdict there is none."""
    controls = [
        Control("within", 1.1, 0.9, 1.1),
        Control("beyond", 1.11, 0.9, 1.1),
        Control("below", -0.1, low=0.0),
        Control("unseen", None, 0.9, 1.1),
        Control("shown", 5.0, has_verdict=False),
    ]
    with store.transaction() as session:
        write_controls(session, evaluation_id=evaluation.id, controls=controls)
        write_controls(session, evaluation_id=evaluation.id, controls=controls)
        assert list_controls(session, evaluation_id=evaluation.id) == {each.name for each in controls}
    with store.transaction() as session:
        columns = ControlResult.__table__.c
        rows = session.execute(select(*columns).where(columns.evaluation_id == evaluation.id)).all()
    assert {row.name: (row.value, row.low, row.high, row.passed) for row in rows} == {
        "within": (1.1, 0.9, 1.1, True),
        "beyond": (1.11, 0.9, 1.1, False),
        "below": (-0.1, 0.0, None, False),
        "unseen": (None, 0.9, 1.1, None),
        "shown": (5.0, None, None, None),
    }


def test_no_rows_are_no_work(store, evaluation):
    """An empty insert is nothing, on both engines."""
    with store.transaction() as session:
        insert_rows(session, Sample, ("attack_id",), [])
    assert _rows(store, Sample, Sample.attack_id == evaluation.attack_id) == []


def test_model_baselines_keep_the_image_means(store, evaluation):
    """ρ is the mean over clean pairs; its error is √(var/n_y + var/n_t); the image means come back exact."""
    low, high = np.array([0.2, 0.4]), np.array([0.1, 0.3, 0.5])
    with store.transaction() as session:
        dataset = add_dataset(session)
        key = {
            "model_id": add_model(session, dataset, 0).id, "dataset_id": dataset.id, "split": "baseline",
            "temperature_rule": "1",
        }  # fmt: skip
        for _ in range(2):  # another process may have stored them meanwhile
            write_model_baselines(session, key=key, means={(1, 3): ImageMeans(low, high)})
    with store.transaction() as session:
        (row,) = session.scalars(select(RhoBaseline).where(RhoBaseline.model_id == key["model_id"])).all()
    assert (row.label_low, row.label_high, row.pairs, row.n_low) == (1, 3, 6, 2)
    assert row.rho == pytest.approx(0.3, abs=1e-15)
    assert row.standard_error == pytest.approx(math.sqrt(0.02 / 2 + 0.04 / 3), abs=1e-15)
    assert np.frombuffer(row.image_means, "<f8").tolist() == [0.2, 0.4, 0.1, 0.3, 0.5]


def test_model_baseline_of_a_single_image_has_no_error(store):
    """One image has no spread: the error is NULL, not NaN."""
    with store.transaction() as session:
        dataset = add_dataset(session)
        model = add_model(session, dataset, 0)
        write_model_baselines(
            session,
            key={
                "model_id": model.id,
                "dataset_id": dataset.id,
                "split": "baseline",
                "temperature_rule": "1",
            },
            means={(0, 1): ImageMeans(np.array([0.5]), np.array([0.4, 0.6]))},
        )
        assert session.scalar(select(RhoBaseline.standard_error).filter_by(model_id=model.id)) is None


def test_evaluation_baselines_are_stored_once(store, evaluation):
    """The baselines of a set of evaluators are kept with the evaluation; an endless error becomes NULL."""
    baselines = {
        (0, 1): Baseline(0.5, 0.45, 0.01, 900, 30, (0.4, 0.5)),
        (0, 2): Baseline(0.4, 0.3, math.inf, 30, 1),
    }
    for _ in range(2):
        with store.transaction() as session:
            write_evaluation_baselines(session, evaluation_id=evaluation.id, baselines=baselines)
    columns = EvaluationBaseline.__table__.c
    with store.transaction() as session:
        rows = session.execute(
            select(*columns).where(columns.evaluation_id == evaluation.id).order_by(columns.label_high)
        ).all()
        total = session.scalar(select(func.count()).where(columns.evaluation_id == evaluation.id))
    assert [tuple(row)[1:] for row in rows] == [
        (0, 1, 0.5, 0.45, 0.01, 900, 30, np.array([0.4, 0.5], "<f8").tobytes()),
        (0, 2, 0.4, 0.3, None, 30, 1, None),
    ]
    assert total == 2
