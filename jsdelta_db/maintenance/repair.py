"""Repair after an outage of MLflow, a killed process or a fault of the disk: ``jsdelta doctor --repair``.

Rows without an MLflow id are those whose logging is not complete: each is logged anew, as a whole.
"""

import json
from collections.abc import Collection, Iterator
from pathlib import Path

from sqlalchemy import select, update

from jsdelta_db.config.eps import format_eps
from jsdelta_db.config.evaluation import DEFAULT_BETAS
from jsdelta_db.maintenance.leases import break_leases
from jsdelta_db.pipeline.datasets.unfinished import remove_unfinished
from jsdelta_db.pipeline.evaluation.filling import fill_baselines
from jsdelta_db.queries import bugs
from jsdelta_db.queries.selection import FACT_KEYS, Selection, list_evaluations
from jsdelta_db.samples.filling import fill_scores
from jsdelta_db.samples.restoring import add_digests, add_image_keys, restore_rows
from jsdelta_db.store.altered import KINDS, SAMPLES, SCORES, list_altered, list_altered_baselines
from jsdelta_db.store.baselines import stored_digest
from jsdelta_db.store.constants import CONSTRUCTED, ROBUST_ACCURACY
from jsdelta_db.store.derived import list_differing, list_without_columns, write_segments
from jsdelta_db.store.schema import (
    FINISHED,
    Attack,
    Dataset,
    Evaluation,
    Model,
    ModelMetric,
    RhoBaseline,
    Run,
)
from jsdelta_db.tracking import RunLog
from jsdelta_db.workbench.workbench import Workbench


def repair(bench: Workbench) -> list[str]:
    """Release leases, close runs of ended processes, restore rows, rebuild segments, log what MLflow lacks.

    Returns:
        One line for each repair.
    """
    abandoned = bench.tracker.close_abandoned()
    _forget_runs(bench, abandoned)
    return [
        *break_leases(bench),
        *(f"closed run {run_id} of a process that is gone" for run_id in abandoned),
        *(f"logged member seed {seed}" for seed in _log_models(bench)),
        *_restore(bench),
        *add_image_keys(bench),
        *(f"logged evaluation {uid}" for uid in _log_evaluations(bench)),
        *fill_scores(bench),
        *fill_baselines(bench),
        *(f"rebuilt the columns of evaluation {uid}" for uid in _rebuild_segments(bench)),
        *(f"logged data set {name}" for name in _log_datasets(bench)),
        *(f"removed what was decoded of data set {name}" for name in remove_unfinished(bench.workspace.root)),
    ]


def _forget_runs(bench: Workbench, run_ids: Collection[str]) -> None:
    """Let finished rows be logged anew whose process was killed before it had logged all of them."""
    with bench.store.transaction() as session:
        for table, finished in (
            (Model, Model.status == FINISHED),
            (Evaluation, Evaluation.status == FINISHED),
            (Dataset, Dataset.status == FINISHED),
            (Attack, Attack.finished_at.is_not(None)),
        ):
            session.execute(
                update(table).where(finished, table.mlflow_run_id.in_(run_ids)).values(mlflow_run_id=None)
            )


def _log_models(bench: Workbench) -> Iterator[int]:
    of_robust = (ModelMetric.model_id == Model.id) & (ModelMetric.name == ROBUST_ACCURACY)
    robust_accuracy = select(ModelMetric.value).where(of_robust).limit(1).scalar_subquery()
    with bench.store.read_session() as session:
        unlogged = session.execute(
            select(Model, robust_accuracy).where(Model.status == FINISHED, Model.mlflow_run_id.is_(None))
        ).all()
    for row, robust in unlogged:
        run = bench.tracker.start(
            f"member seed {row.seed}", uid=row.uid, params={**row.recipe, "seed": row.seed}
        )
        folder = bench.locate(row.checkpoint_uri or "").parent
        history = folder / "history.json"
        for values in json.loads(history.read_text()) if history.exists() else []:
            epoch = values.pop("epoch")
            run.metrics(values, step=epoch)
        run.metrics({"clean_accuracy": row.clean_accuracy, "robust_accuracy": robust})
        if _finish(bench, run, folder, row):
            yield row.seed


def _log_evaluations(bench: Workbench) -> Iterator[str]:
    with bench.store.read_session() as session:
        unlogged = session.execute(
            select(Evaluation, Attack)
            .join(Attack, Attack.id == Evaluation.attack_id)
            .where(Evaluation.status == FINISHED, Evaluation.mlflow_run_id.is_(None))
        ).all()
    for evaluation, attack in unlogged:
        with bench.store.reading() as connection:
            selection = Selection(uids=(evaluation.uid,))
            table = bugs.query_bugs(connection, DEFAULT_BETAS, (), selection)
            facts = list_evaluations(connection, selection)[0].facts
        run = bench.tracker.start(
            f"attack on {facts['attacked']}, ε = {format_eps(attack.eps, attack.norm)}",
            uid=evaluation.uid,
            params={name: facts[name] for name in FACT_KEYS},
        )
        for step, metrics in bugs.summary_metrics(table.rows).items():
            run.metrics(metrics, step=step)
        if _finish(bench, run, bench.locate(evaluation.artifact_uri or ""), evaluation, attack):
            yield evaluation.uid


def _restore(bench: Workbench) -> Iterator[str]:
    """Take altered rows from their files again, drop altered baselines, and add digests that are missing."""
    for kind in KINDS:
        with bench.store.reading() as connection:
            altered = list_altered(connection, kind)
            runs = connection.execute(select(kind.runs.id).order_by(kind.runs.id)).scalars().all()
        for run_id, uid in altered:
            title = f"the {kind.title} of {kind.runs.__tablename__} {uid}"
            if restore_rows(bench, kind, run_id):
                yield f"took {title} from their files again"
            else:
                yield f"{title} are altered, and their files cannot give them back; restore a backup"
        if n_rows := sum(add_digests(bench, kind, run_id) for run_id in runs):
            yield f"added the digests of {n_rows} {kind.title}"
    with bench.store.transaction() as session:
        for row, uid in list(list_altered_baselines(session)):
            session.delete(row)  # computed again where it is needed
            yield f"dropped an altered baseline of model {uid}"
        without = session.scalars(select(RhoBaseline).where(RhoBaseline.digest.is_(None))).all()
        for row in without:
            row.digest = stored_digest(session, row)
    if without:
        yield f"added the digests of {len(without)} baselines"


def _rebuild_segments(bench: Workbench) -> list[str]:
    """Rebuild from rows the column segments that are missing, differ, or are an older version's.

    Those of altered rows stay: they are what was stored.
    """
    with bench.store.reading() as connection:
        wrong = dict(list_differing(connection))
        older = select(Evaluation.id, Evaluation.uid).where(
            Evaluation.id.in_(list_without_columns(connection))
        )
        wrong.update((row.id, row.uid) for row in connection.execute(older))
        altered: set[int] = set()
        if wrong:
            altered = {evaluation_id for evaluation_id, _ in list_altered(connection, SCORES)}
            attacks = [attack_id for attack_id, _ in list_altered(connection, SAMPLES)]
            altered |= set(connection.scalars(select(Evaluation.id).where(Evaluation.attack_id.in_(attacks))))
    rebuilt = {evaluation_id: uid for evaluation_id, uid in wrong.items() if evaluation_id not in altered}
    for evaluation_id in rebuilt:
        with bench.store.transaction() as session:
            write_segments(session, evaluation_id)
    return list(rebuilt.values())


def _log_datasets(bench: Workbench) -> Iterator[str]:
    constructed = (Dataset.kind == CONSTRUCTED) & (Dataset.status == FINISHED)
    with bench.store.read_session() as session:
        rows = session.scalars(select(Dataset).where(constructed, Dataset.mlflow_run_id.is_(None))).all()
    for row in rows:
        run = bench.tracker.start(f"dataset {row.name}", uid=row.uid, params=row.construction or {})
        digest = (row.fingerprint or "")[:16]
        run.dataset(name=row.name, digest=digest, source=row.uri or "", context="constructed")
        if _finish(bench, run, bench.locate(row.uri or "").parent, row):
            yield row.name


def _finish(bench: Workbench, run: RunLog, folder: Path, *rows: Run) -> bool:
    """Copy a run's files, close it, and store its id in rows without one; return whether it was logged."""
    run.copy_files(folder)
    run.finish()
    with bench.store.transaction() as session:
        for row in rows:
            stored = session.get_one(type(row), row.id)
            stored.mlflow_run_id = stored.mlflow_run_id or run.logged_id
    return run.logged_id is not None
