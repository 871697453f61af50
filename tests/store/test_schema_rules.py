"""What the schema itself refuses, on both engines; and rows made by hand, for the tests beside this one."""

import numpy as np
import pytest
from sqlalchemy.exc import IntegrityError

from jsdelta_db.store.creating import open_for_writing
from jsdelta_db.store.schema import Attack, Dataset
from tests.stores import (
    ENGINES,
    add_attack,
    add_dataset,
    add_ensemble,
    add_evaluation,
    add_evaluator,
    add_model,
    add_samples,
    new_store,
)


@pytest.fixture(scope="module", params=ENGINES)
def store(request, tmp_path_factory):
    """A store on each engine."""
    with new_store(request, tmp_path_factory.mktemp("store")) as opened:
        yield opened


@pytest.fixture(scope="module")
def judged(store):
    """An evaluation of an attack on seed 0, judged by seed 1."""
    with store.transaction() as session:
        dataset = add_dataset(session)
        attacked_model, evaluator = (add_model(session, dataset, seed) for seed in (0, 1))
        evaluation = add_evaluation(session, add_attack(session, attacked_model), [evaluator])
    return attacked_model, evaluator, evaluation


def test_attacked_weights_can_not_be_an_evaluator(store, judged):
    """A fooled model must not judge itself: the schema refuses it."""
    attacked_model, _, evaluation = judged
    with pytest.raises(IntegrityError, match="not_attacked"), store.transaction() as session:
        add_evaluator(session, evaluation, 1, attacked_model)


def test_another_row_with_the_attacked_weights_can_not_be_an_evaluator(store, judged):
    """The rule is about the weights, not about the row: a second model of equal sha256 is refused, too."""
    attacked_model, _, evaluation = judged
    with store.transaction() as session:
        dataset = session.get_one(Dataset, attacked_model.dataset_id)
        twin = add_model(session, dataset, 7, checkpoint_sha256=attacked_model.checkpoint_sha256)
    with pytest.raises(IntegrityError, match="not_attacked"), store.transaction() as session:
        add_evaluator(session, evaluation, 1, twin)


@pytest.mark.parametrize("lie", ["attacked_sha256", "model_sha256"])
def test_false_weights_do_not_smuggle_the_attacked_model_in(lie, store, judged):
    """The sha256 beside an evaluator must be the model's and the attack's own."""
    attacked_model, _, evaluation = judged
    with pytest.raises(IntegrityError, match=r"(?i)foreign key"), store.transaction() as session:
        add_evaluator(session, evaluation, 1, attacked_model, **{lie: "made-up"})


def test_evaluator_counts_once(store, judged):
    """The same weights twice would weigh double in the mean."""
    _, evaluator, evaluation = judged
    with pytest.raises(IntegrityError, match=r"(?i)unique"), store.transaction() as session:
        add_evaluator(session, evaluation, 1, evaluator)


@pytest.mark.parametrize("success", [-1, 2])
def test_success_is_zero_or_one(success, store, judged):
    """Success is a yes or a no."""
    with pytest.raises(IntegrityError, match="ck_sample_success"), store.transaction() as session:
        add_samples(session, session.get_one(Attack, judged[2].attack_id), [(1, 0, 1, success, None)])


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO sample (attack_id, sample_index, requested_target, source_label, target_label, success, "
        "confidence) VALUES (99, 1, 1, 0, 1, 1, 0.5)",
        "INSERT INTO score (evaluation_id, sample_index, requested_target, js, js_of_mean, js_attacked, "
        "n_right, n_at_target, n_at_target_adv, member_js) VALUES (99, 1, 1, 0, 0, 0, 1, 0, 0, '')",
        "INSERT INTO attack_chunk (attack_id, position, n_attempts, status) VALUES (99, 0, 1, 'pending')",
        "UPDATE attack SET dataset_id = 99",
        "DELETE FROM model",
    ],
    ids=["sample", "score", "chunk", "attack of no data set", "model in use"],
)
def test_foreign_keys_are_enforced(statement, store, judged):
    """No row may point to one that is not there."""
    statement = statement.replace("''", "x''" if store.is_sqlite else r"'\x'")
    with pytest.raises(IntegrityError, match=r"(?i)foreign key"), store.transaction() as session:
        session.connection().exec_driver_sql(statement)


def test_attempt_is_stored_once(store, judged):
    """An attempt is one image with one requested target in one attack."""
    with store.transaction() as session:
        attack = session.get_one(Attack, judged[2].attack_id)
        add_samples(session, attack, [(1, 0, 1, 1, None), (1, 0, 2, 1, None)])
    with pytest.raises(IntegrityError, match=r"(?i)unique|duplicate"), store.transaction() as session:
        add_samples(session, attack, [(1, 0, 2, 0, None)])


def test_uids_are_unique(store):
    """Two runs cannot have one uid."""
    with store.transaction() as session:
        dataset = add_dataset(session)
    with pytest.raises(IntegrityError, match=r"(?i)unique|duplicate"), store.transaction() as session:
        add_dataset(session, uid=dataset.uid)


def test_names_need_not_be_unique(store):
    """Two ensembles may share a name."""
    with store.transaction() as session:
        dataset = add_dataset(session)
        first, second = (add_ensemble(session, dataset, [], name="same") for _ in range(2))
    assert (first.name, first.id) != (second.name, second.id)
    assert first.uid != second.uid


@pytest.mark.parametrize("value", [np.int64(7), "seven"])
@pytest.mark.parametrize("column", ["sample_index", "requested_target", "source_label", "success"])
def test_sqlite_refuses_other_types_in_per_sample_rows(column, value, tmp_path):
    """A NumPy integer would land as a blob that no comparison finds: STRICT tables refuse it."""
    store = open_for_writing(f"sqlite:///{tmp_path / 'jsdelta.db'}")
    given = {
        "attack_id": 1, "sample_index": 1, "requested_target": 1, "source_label": 0, "target_label": 1,
        "success": 1, "confidence": 0.5, column: value,
    }  # fmt: skip
    statement = f"INSERT INTO sample ({', '.join(given)}) VALUES ({', '.join('?' * len(given))})"
    with pytest.raises(IntegrityError, match="cannot store"), store.transaction() as session:
        session.connection().exec_driver_sql(statement, tuple(given.values()))
    store.close()
