"""Stores of either engine, copied from one that migrations made and filled by hand."""

import datetime
import hashlib
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import make_url
from sqlalchemy.orm import Session

from jsdelta_db.store.creating import open_for_writing
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

_numbers = count(1)  # of uids
CLASSES = ("zero", "one", "two", "three")

START = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)

# sample_index, source_label, requested_target, success, js_delta
HandRow = tuple[int, int, int, int, float | None]


def new_database(server: str, name: str, template: str = "template1") -> str:
    """Make a database of a given name on a PostgreSQL server, as empty as its template, and return its URL."""
    import psycopg

    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
        connection.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
    url = make_url(server).set(database=name, drivername="postgresql")
    return url.render_as_string(hide_password=False)


@contextmanager
def new_store(request: pytest.FixtureRequest, folder: Path) -> Iterator[Store]:
    """Open an empty store on the engine that a fixture is parametrized with."""
    if request.param == "sqlite":
        shutil.copy(request.getfixturevalue("empty_store"), folder / "jsdelta.db")
        url = f"sqlite:///{folder / 'jsdelta.db'}"
    else:
        name = f"test_{request.node.name.removesuffix('.py').replace('/', '_')}"
        url = new_database(
            request.getfixturevalue("postgres_server"), name, request.getfixturevalue("postgres_template")
        )
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


def add_chunks(
    session: Session, attack: Attack, evaluation: Evaluation, chunks: int, *, with_attack: bool = True
) -> None:
    """Add pending chunks to an attack, if it has none yet, and its evaluation."""
    for position in range(chunks):
        if with_attack:
            session.add(AttackChunk(attack_id=attack.id, position=position, n_attempts=attack.chunk_size))
        session.add(
            EvaluationChunk(evaluation_id=evaluation.id, position=position, n_attempts=attack.chunk_size)
        )
    session.flush()


ELSEWHERE = "some-other-host.example\tboot\t1\t1"  # alive while its heartbeat is fresh
