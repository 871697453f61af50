"""Planned evaluations, worked off chunk by chunk: samples made or read, judged and kept."""

import time

import numpy as np
import torch
from numpy.typing import NDArray

from jsdelta_db.attacks import apply_delta
from jsdelta_db.attacks.stability import measure_stability
from jsdelta_db.chunks import keep_samples, keep_scores, kept_logits, read_samples
from jsdelta_db.leases import describe
from jsdelta_db.members import POLL_SECONDS
from jsdelta_db.metrics import score
from jsdelta_db.metrics.agreement import measure_agreement
from jsdelta_db.models.inference import forward
from jsdelta_db.planning import Plan
from jsdelta_db.records import FILE_SPLIT, Baselines, Samples, Scores
from jsdelta_db.store import runs, write
from jsdelta_db.store.schema import Attack, Evaluation
from jsdelta_db.tracking import KILLED, RunLog
from jsdelta_db.workbench import Workbench


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


def work_off(bench: Workbench, plan: Plan, baselines: Baselines, run: RunLog) -> None:
    """Attack and score the chunks that are free, wait for those in other hands, then finish."""
    agreement = measure_agreement(
        [member.logits("baseline") for member in plan.evaluators],
        plan.dataset.splits["baseline"].labels.numpy(),
    )
    with bench.store.transaction() as session:
        write.write_evaluation_baselines(session, evaluation_id=plan.evaluation.id, baselines=baselines)
        write.write_controls(session, evaluation_id=plan.evaluation.id, controls=agreement.as_controls())
    told = False
    with bench.progress.task(plan.title, plan.attack.n_attempts) as advance:
        while True:
            with bench.store.transaction() as session:
                work = runs.claim_chunk(session, plan.attack, plan.evaluation)
            if work is None:
                break
            if isinstance(work, str):
                if not told:
                    bench.progress.say(f"{plan.title}: the last chunks are with {describe(work)}; waiting")
                    told = True
                time.sleep(POLL_SECONDS)
                continue
            samples = _get_samples(bench, plan, work, run)
            scores, clean_logits = judge(bench, plan, samples, work.position, baselines)
            keep_scores(bench, plan.attack, plan.evaluation, scores, clean_logits, work.position, run)
            advance(len(samples.attempts))
    with bench.store.transaction() as session:
        runs.finish_evaluation(session, plan.attack, plan.evaluation)


def _get_samples(bench: Workbench, plan: Plan, work: runs.ChunkWork, run: RunLog) -> Samples:
    """Make a chunk of samples, or read it; one whose perturbations were not kept comes out the same again."""
    if plan.make is not None and (work.to_attack or not plan.attack.keeps_samples):
        samples = plan.make(work.position)
        if work.to_attack:
            keep_samples(bench, plan.attack, samples, work.position, run)
        return samples
    return read_samples(bench, plan.attack, work.position, plan.dataset, plan.attacked)


def judge(
    bench: Workbench, plan: Plan, samples: Samples, position: int, baselines: Baselines
) -> tuple[Scores, NDArray[np.float32]]:
    """Let the evaluators compare each clean image with its adversarial one, in float32.

    Evaluators that have seen these samples before are not asked again.

    Returns:
        The scores, and the evaluators' clean logits ``(evaluators, n, classes)``.
    """
    kept = kept_logits(bench, plan.attack, position)
    x = torch.from_numpy(samples.x)
    x_adv = apply_delta(x, torch.from_numpy(samples.delta)).contiguous(memory_format=torch.channels_last)
    adversarial, clean = [], []
    for member in plan.evaluators:
        known = kept.get(member.row.id, {})
        said = known.get("logits")
        adversarial.append(forward(member.network, x_adv.to(member.device)) if said is None else said)
        if plan.attack.split == FILE_SPLIT:
            said = known.get("clean_logits")
            clean.append(forward(member.network, x.to(member.device)) if said is None else said)
        else:
            rows = plan.dataset.splits[plan.attack.split].rows_of(samples.attempts.sample_index)
            clean.append(member.logits(plan.attack.split)[rows])
    clean_logits = np.stack(clean)
    return score(samples, clean_logits, np.stack(adversarial), baselines, plan.temperatures), clean_logits


def add_stability(bench: Workbench, plan: Plan) -> None:
    """Measure the stability of a finished attack's successful samples, if it is not stored yet.

    Raises:
        UsageError: its perturbations were not kept.
    """
    attack = plan.attack
    with bench.store.transaction() as session:
        if not write.count_without_stability(session, attack_id=attack.id):
            return
    chunks = range(-(-attack.n_attempts // attack.chunk_size))
    with bench.progress.task(f"stability, {plan.title}", attack.n_attempts) as advance:
        for position in chunks:
            samples = read_samples(bench, attack, position, plan.dataset, plan.attacked)
            hits = np.flatnonzero(samples.success)
            if len(hits):
                attempts = samples.attempts.pick(hits)
                x_adv = apply_delta(torch.from_numpy(samples.x[hits]), torch.from_numpy(samples.delta[hits]))
                stability = measure_stability(
                    plan.attacked.network, x_adv, attempts, samples.target_label[hits], norm=attack.norm,
                    eps=attack.eps, seed=attack.seed, device=plan.attacked.device,
                )  # fmt: skip
                with bench.store.transaction() as session:
                    write.write_stability(
                        session, attack_id=attack.id, attempts=attempts, stability=stability
                    )
            advance(len(samples.attempts))
