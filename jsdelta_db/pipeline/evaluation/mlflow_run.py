"""MLflow runs of evaluations: started, reopened, and noted once they are whole."""

import json

from jsdelta_db.pipeline.evaluation.plan import Plan
from jsdelta_db.store import runs
from jsdelta_db.store.schema import Attack, Evaluation
from jsdelta_db.tracking import KILLED, RunLog

ATTACK_PARAMETERS = (
    "norm", "eps", "steps", "step_size", "random_start", "restarts", "objective", "stop", "seed",
    "images", "split", "library", "library_version", "device", "dtype", "prepared_as",
    "chunk_size",
)  # fmt: skip


def open_run(plan: Plan, parent: RunLog) -> RunLog:
    """Start the evaluation's MLflow run, or reopen the one that was stopped."""
    bench, dataset, evaluation = plan.roles.bench, plan.roles.dataset, plan.evaluation
    if evaluation.artifact_uri is not None:
        return bench.tracker.reopen(evaluation.mlflow_run_id, bench.locate(evaluation.artifact_uri), parent)
    run = bench.tracker.start(plan.title, uid=evaluation.uid, parent=parent, params=_parameters(plan))
    try:
        digest = plan.roles.dataset_row.uid
        run.dataset(name=dataset.name, digest=digest, source=dataset.name, context="attack")
        with bench.store.transaction() as session:
            runs.serialize(session, f"run of {evaluation.uid}")
            stored = session.get_one(Evaluation, evaluation.id)
            other_folder = stored.artifact_uri
            for row in (session.get_one(Attack, plan.attack.id), stored):
                # An attack that is judged again keeps the folder of its own samples.
                if row.artifact_uri is None:
                    row.artifact_uri, row.mlflow_run_id = bench.relative(run.folder), run.run_id
    except BaseException:
        run.finish(KILLED)  # nobody else knows of it yet
        raise
    if other_folder is None:
        return run
    # Another process began the same a moment ago: there is one run for both.
    if run.run_id is not None:
        bench.tracker.delete_runs([run.run_id], with_parents=False)
    return bench.tracker.reopen(stored.mlflow_run_id, bench.locate(other_folder), parent)


def _parameters(plan: Plan) -> dict[str, object]:
    attack, attacked = plan.attack, plan.roles.attacked.row
    by = {} if attack.attack_by is None else {"attack_by": json.dumps(attack.attack_by, sort_keys=True)}
    return {
        **by,
        **{name: getattr(attack, name) for name in ATTACK_PARAMETERS},
        "targets": attack.target_rule, "attack": attack.uid, "attacked_model": attacked.uid,
        "attacked_seed": attacked.seed, "temperature": plan.evaluation.temperature_rule,
        "evaluators": " ".join(member.row.uid for member in plan.roles.evaluators),
    }  # fmt: skip


def note_run(plan: Plan, run: RunLog) -> None:
    """Store the run's id, now that all is logged; ``doctor --repair`` logs finished rows without one."""
    with plan.roles.bench.store.transaction() as session:
        session.get_one(Evaluation, plan.evaluation.id).mlflow_run_id = run.logged_id
