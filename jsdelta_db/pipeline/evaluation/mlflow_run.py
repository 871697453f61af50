"""MLflow run of one evaluation: started, reopened or given up."""

from jsdelta_db.pipeline.evaluation.plan import Plan
from jsdelta_db.store import runs
from jsdelta_db.store.schema import Attack, Evaluation
from jsdelta_db.tracking import KILLED, RunLog
from jsdelta_db.workbench.workbench import Workbench


def open_run(bench: Workbench, plan: Plan, parent: RunLog) -> RunLog:
    """Start the evaluation's MLflow run, or reopen the one that was stopped."""
    attack, evaluation = plan.attack, plan.evaluation
    if evaluation.artifact_uri is not None:
        return bench.tracker.reopen(evaluation.mlflow_run_id, bench.locate(evaluation.artifact_uri), parent)
    run = bench.tracker.start(plan.title, uid=evaluation.uid, parent=parent, params=_parameters(plan))
    try:
        run.dataset(
            name=plan.dataset.name, digest=plan.dataset_uid, source=plan.dataset.name, context="attack"
        )
        with bench.store.transaction() as session:
            runs.serialize(session, f"run of {evaluation.uid}")
            stored = session.get_one(Evaluation, evaluation.id)
            theirs = stored.artifact_uri
            for row in (session.get_one(Attack, attack.id), stored):
                # An attack that is judged again keeps the folder of its own samples.
                if row.artifact_uri is None:
                    row.artifact_uri, row.mlflow_run_id = bench.relative(run.folder), run.run_id
    except BaseException:
        run.finish(KILLED)  # nobody else knows of it yet
        raise
    if theirs is None:
        return run
    # Another process began the same a moment ago: there is one run for both.
    if run.run_id is not None:
        bench.tracker.delete_runs([run.run_id], with_parents=False)
    return bench.tracker.reopen(stored.mlflow_run_id, bench.locate(theirs), parent)


def _parameters(plan: Plan) -> dict[str, object]:
    attack = plan.attack
    of_attack = (
        "norm", "eps", "steps", "step_size", "random_start", "restarts", "objective", "stop", "seed",
        "images", "split", "library", "library_version", "device", "dtype", "chunk_size",
    )  # fmt: skip
    return {
        **{name: getattr(attack, name) for name in of_attack},
        "targets": attack.target_rule, "attack": attack.uid, "attacked_model": plan.attacked.row.uid,
        "attacked_seed": plan.attacked.row.seed, "temperature": plan.evaluation.temperature_rule,
        "evaluators": " ".join(member.row.uid for member in plan.evaluators),
    }  # fmt: skip


def forget_run(bench: Workbench, plan: Plan) -> None:
    """Take the run's id back where MLflow lacks results: ``doctor --repair`` looks for rows without one."""
    with bench.store.transaction() as session:
        session.get_one(Evaluation, plan.evaluation.id).mlflow_run_id = None
