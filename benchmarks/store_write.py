"""Writing the rows of ``store.py``, through the functions that ``jsdelta attack`` calls."""

import hashlib
import time
from dataclasses import dataclass

from sqlalchemy.orm import Session
from store_rows import ATTEMPTS, CLASSES, ENSEMBLES, IMAGES, MEMBERS, METHODS, Run

from jsdelta_db.store import runs
from jsdelta_db.store.attempts import write_samples, write_scores
from jsdelta_db.store.baselines import write_evaluation_baselines
from jsdelta_db.store.inserting import insert_rows
from jsdelta_db.store.schema import (
    FINISHED,
    PENDING,
    Attack,
    AttackChunk,
    Ensemble,
    EnsembleMember,
    Evaluation,
    EvaluationChunk,
    EvaluationMember,
    Model,
)
from jsdelta_db.store.session import Store


@dataclass(frozen=True, slots=True)
class Cast:
    """The models of all runs: by method, the ensembles and their members."""

    dataset_id: int
    ensembles: dict[str, list[tuple[Ensemble, list[Model]]]]


def make_cast(store: Store) -> Cast:
    """Enter a data set and finished ensembles of each method."""
    with store.transaction() as session:
        dataset = runs.ensure_dataset(session, name="cifar10", classes=CLASSES, fingerprint=sha256("cifar10"))
        cast = Cast(dataset.id, {})
        for method in METHODS:
            cast.ensembles[method] = [
                _make_ensemble(session, dataset.id, method, number) for number in range(ENSEMBLES)
            ]
    return cast


def _make_ensemble(
    session: Session, dataset_id: int, method: str, number: int
) -> tuple[Ensemble, list[Model]]:
    name = f"{method}-{number}"
    models = [
        Model(
            uid=runs.new_uid(), config_hash=sha256(f"{name}-{seed}"), created_at=runs.now(),
            finished_at=runs.now(), dataset_id=dataset_id, seed=number * MEMBERS + seed,
            recipe_name="cifar10", recipe={}, architecture="resnet20", method=method,
            checkpoint_sha256=sha256(f"weights of {name}-{seed}"), status=FINISHED,
        )
        for seed in range(MEMBERS)
    ]  # fmt: skip
    ensemble = Ensemble(
        uid=runs.new_uid(), config_hash=sha256(name), created_at=runs.now(), finished_at=runs.now(),
        name=name, dataset_id=dataset_id, status=FINISHED,
    )  # fmt: skip
    session.add_all([*models, ensemble])
    session.flush()
    session.add_all(
        EnsembleMember(ensemble_id=ensemble.id, position=position, model_id=model.id)
        for position, model in enumerate(models)
    )
    return ensemble, models


def write_run(store: Store, cast: Cast, run: Run, chunk_size: int) -> tuple[float, float]:
    """Write one run: its plan, its chunks (samples, then scores), its end. Returns wall and CPU seconds."""
    chunks = list(run.chunks(chunk_size))
    begun, cpu_begun = time.perf_counter(), time.process_time()
    attack, evaluation = plan_run(store, cast, run, chunk_size)
    for position, (samples, scores) in enumerate(chunks):
        with store.transaction() as session:
            digest = write_samples(session, attack_id=attack.id, samples=samples)
            _finish(session.get_one(AttackChunk, (attack.id, position)), attack.uid, ("samples", digest))
        with store.transaction() as session:
            digest = write_scores(session, evaluation_id=evaluation.id, scores=scores)
            chunk = session.get_one(EvaluationChunk, (evaluation.id, position))
            _finish(chunk, evaluation.uid, ("scores", digest))
    with store.transaction() as session:
        runs.finish_evaluation(session, attack, evaluation)
    return time.perf_counter() - begun, time.process_time() - cpu_begun


def plan_run(store: Store, cast: Cast, run: Run, chunk_size: int) -> tuple[Attack, Evaluation]:
    """Enter the rows before the first attempt: attack, evaluation, evaluators, baselines, chunks."""
    ensemble, members = cast.ensembles[run.method][run.ensemble]
    attacked = members[run.attacked]
    evaluators = [member for member in members if member is not attacked]
    with store.transaction() as session:
        attack = Attack(
            uid=runs.new_uid(), config_hash=sha256(f"attack {run.number}"), created_at=runs.now(),
            attacked_model_id=attacked.id, attacked_sha256=attacked.checkpoint_sha256,
            dataset_id=cast.dataset_id, split="attack", norm="linf", eps=run.eps, steps=100,
            step_size=2.5 * run.eps / 100, random_start=True, restarts=1, target_rule="random",
            objective="target", stop="never", seed=run.attack_seed, library="jsdelta",
            library_version="0", chunk_size=chunk_size, n_images=IMAGES, n_skipped=IMAGES - ATTEMPTS,
            n_attempts=ATTEMPTS, requested_device="auto", requested_dtype="auto", device="cpu",
            dtype="bfloat16", threads=2,
        )  # fmt: skip
        session.add(attack)
        session.flush()
        evaluation = Evaluation(
            uid=runs.new_uid(), config_hash=sha256(f"evaluation {run.number}"), created_at=runs.now(),
            attack_id=attack.id, attacked_sha256=attack.attacked_sha256, ensemble_id=ensemble.id,
            temperature_rule="1", baseline_rule="clean-pairs",
        )  # fmt: skip
        session.add(evaluation)
        session.flush()
        session.add_all(
            EvaluationMember(
                evaluation_id=evaluation.id, position=position, model_id=evaluator.id,
                model_sha256=evaluator.checkpoint_sha256, attacked_sha256=attack.attacked_sha256,
            )
            for position, evaluator in enumerate(evaluators)
        )  # fmt: skip
        write_evaluation_baselines(session, evaluation_id=evaluation.id, baselines=run.baselines)
        sizes = [min(chunk_size, ATTEMPTS - start) for start in range(0, ATTEMPTS, chunk_size)]
        for table, parent, row in (
            (AttackChunk, "attack_id", attack),
            (EvaluationChunk, "evaluation_id", evaluation),
        ):
            insert_rows(
                session,
                table,
                (parent, "position", "status", "n_attempts"),
                [(row.id, position, PENDING, size) for position, size in enumerate(sizes)],
            )
    return attack, evaluation


def _finish(chunk: AttackChunk | EvaluationChunk, run: str, rows: tuple[str, str]) -> None:
    kind, digest = rows
    uri = f"mlruns/1/{run}{run}/artifacts/{kind}/chunk-{chunk.position:05d}.npz"
    runs.finish_chunk(chunk, uri=uri, sha256=sha256(uri), digest=digest)


def sha256(text: str) -> str:
    """Return 64 hex digits, as checkpoints and configurations have them."""
    return hashlib.sha256(text.encode()).hexdigest()
