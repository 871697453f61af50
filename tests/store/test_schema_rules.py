"""What the schema itself refuses, on both engines; and rows made by hand, for the tests beside this one."""

import datetime
import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import make_url
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from jsdelta_db.store.creating import open_for_writing
from jsdelta_db.store.migrate import upgrade
from jsdelta_db.store.schema import (
    FINISHED,
    Attack,
    AttackChunk,
    Dataset,
    Ensemble,
    EnsembleMember,
    Evaluation,
    EvaluationChunk,
    EvaluationMember,
    Model,
    Sample,
    Score,
)
from jsdelta_db.store.session import Store

ENGINES = ("sqlite", "postgresql")
CLASSES = ("zero", "one", "two", "three")
START = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
_numbers = count(1)

# sample_index, source_label, requested_target, success, js_delta
HandRow = tuple[int, int, int, int, float | None]


def new_database(server: str, name: str) -> str:
    """Make an empty database of a given name on a PostgreSQL server and return its URL."""
    import psycopg

    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
        connection.execute(f'CREATE DATABASE "{name}"')
    url = make_url(server).set(database=name, drivername="postgresql")
    return url.render_as_string(hide_password=False)


@contextmanager
def new_store(request: pytest.FixtureRequest, folder: Path) -> Iterator[Store]:
    """Open an empty store on the engine that a fixture is parametrized with."""
    if request.param == "sqlite":
        url = f"sqlite:///{folder / 'jsdelta.db'}"
    else:
        name = f"test_{request.node.name.removesuffix('.py').replace('/', '_')}"
        url = new_database(request.getfixturevalue("postgres_server"), name)
    upgrade(url)
    store = open_for_writing(url)
    try:
        yield store
    finally:
        store.close()


def _identity() -> dict:
    number = next(_numbers)
    return {
        "uid": hashlib.sha256(b"%d" % number).hexdigest()[:16],
        "config_hash": f"{number:064x}",
        "created_at": START + datetime.timedelta(seconds=number),
        "finished_at": START + datetime.timedelta(seconds=number),
    }


def _add(session: Session, row):
    session.add(row)
    session.flush()
    return row


def add_dataset(session: Session, **facts) -> Dataset:
    """Add a data set of four classes."""
    return _add(
        session,
        Dataset(
            **{
                **_identity(),
                "name": "toy",
                "kind": "builtin",
                "classes": list(CLASSES),
                "status": FINISHED,
                **facts,
            }
        ),
    )


def add_model(session: Session, dataset: Dataset, seed: int, **facts) -> Model:
    """Add a finished model with weights of its own."""
    identity = _identity()
    return _add(
        session,
        Model(
            **{
                **identity,
                "dataset_id": dataset.id,
                "recipe_name": "toy",
                "recipe": {},
                "architecture": "small-cnn",
                "method": "standard",
                "seed": seed,
                "checkpoint_uri": "checkpoint.pt",
                "checkpoint_sha256": f"sha256-of-{identity['uid']}",
                "status": FINISHED,
                **facts,
            }
        ),
    )


def add_ensemble(session: Session, dataset: Dataset, models: Sequence[Model], **facts) -> Ensemble:
    """Add a finished ensemble of some models."""
    ensemble = _add(
        session,
        Ensemble(**{**_identity(), "dataset_id": dataset.id, "name": "toy", "status": FINISHED, **facts}),
    )
    for position, model in enumerate(models):
        _add(session, EnsembleMember(ensemble_id=ensemble.id, position=position, model_id=model.id))
    return ensemble


def add_attack(session: Session, attacked_model: Model, **facts) -> Attack:
    """Add an attack of 3/255; its step size is always 2.5·ε/steps."""
    eps, steps = facts.get("eps", 3 / 255), facts.get("steps", 100)
    return _add(
        session,
        Attack(
            **{
                **_identity(),
                "attacked_model_id": attacked_model.id,
                "attacked_sha256": attacked_model.checkpoint_sha256,
                "dataset_id": attacked_model.dataset_id,
                "split": "attack",
                "norm": "linf",
                "eps": eps,
                "steps": steps,
                "step_size": 2.5 * eps / steps,
                "random_start": True,
                "restarts": 1,
                "target_rule": "random",
                "objective": "target",
                "stop": "never",
                "seed": 0,
                "images": None,
                "library": "jsdelta",
                "library_version": "0",
                "chunk_size": 2,
                "n_images": 8,
                "n_skipped": 2,
                "n_attempts": 6,
                "requested_device": "auto",
                "requested_dtype": "float32",
                "device": "cpu",
                "dtype": "float32",
                "threads": 1,
                **facts,
            }
        ),
    )


def add_evaluation(
    session: Session,
    attack: Attack,
    evaluators: Sequence[Model] = (),
    ensemble: Ensemble | None = None,
    **facts,
) -> Evaluation:
    """Add a finished evaluation of an attack by some evaluators."""
    evaluation = _add(
        session,
        Evaluation(
            **{
                **_identity(),
                "attack_id": attack.id,
                "attacked_sha256": attack.attacked_sha256,
                "ensemble_id": ensemble.id if ensemble else None,
                "temperature_rule": "1",
                "baseline_rule": "clean-pairs",
                "status": FINISHED,
                **facts,
            }
        ),
    )
    for position, model in enumerate(evaluators):
        add_evaluator(session, evaluation, position, model)
    return evaluation


def add_evaluator(
    session: Session, evaluation: Evaluation, position: int, model: Model, **facts
) -> EvaluationMember:
    """Put a model among the evaluators."""
    return _add(
        session,
        EvaluationMember(
            **{
                "evaluation_id": evaluation.id,
                "position": position,
                "model_id": model.id,
                "model_sha256": model.checkpoint_sha256,
                "attacked_sha256": evaluation.attacked_sha256,
                **facts,
            }
        ),
    )


def add_samples(session: Session, attack: Attack, rows: Sequence[HandRow]) -> None:
    """Add an attack's samples; the label aimed at is the label of the row."""
    session.add_all(
        Sample(
            attack_id=attack.id, sample_index=index, requested_target=target, source_label=source,
            target_label=target, success=success, confidence=0.5, linf=attack.eps, l2=0.1,
        )
        for index, source, target, success, _ in rows
    )  # fmt: skip
    session.flush()


def add_scores(session: Session, evaluation: Evaluation, rows: Sequence[HandRow]) -> None:
    """Add an evaluation's scores."""
    session.add_all(
        Score(
            evaluation_id=evaluation.id, sample_index=index, requested_target=target, js=0.1, js_of_mean=0.1,
            js_delta=js_delta, js_attacked=0.9, n_right=1, n_at_target=0, n_at_target_adv=0,
            member_js=np.float32([0.1]).tobytes(),
        )
        for index, _, target, _, js_delta in rows
    )  # fmt: skip
    session.flush()


def add_chunks(session: Session, attack: Attack, evaluation: Evaluation, chunks: int) -> None:
    """Add pending chunks to an attack and its evaluation."""
    for position in range(chunks):
        session.add(AttackChunk(attack_id=attack.id, position=position, n_attempts=attack.chunk_size))
        session.add(
            EvaluationChunk(evaluation_id=evaluation.id, position=position, n_attempts=attack.chunk_size)
        )
    session.flush()


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
