"""One planned attack, worked off chunk by chunk: samples made, judged and kept."""

import io
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from jsdelta_db.attacks import PreparedModel, perturb
from jsdelta_db.attacks.perturb import apply_delta
from jsdelta_db.errors import CheckpointError
from jsdelta_db.files import sha256_of, write_atomically
from jsdelta_db.leases import describe
from jsdelta_db.members import POLL_SECONDS
from jsdelta_db.metrics import score
from jsdelta_db.models.inference import forward
from jsdelta_db.planning import Plan
from jsdelta_db.records import Attempts, Baselines, Samples, Scores
from jsdelta_db.store import runs, write
from jsdelta_db.store.schema import Attack, AttackChunk, Evaluation, EvaluationChunk
from jsdelta_db.tracking import KILLED, RunLog
from jsdelta_db.workbench import Workbench


def open_run(bench: Workbench, plan: Plan, parent: RunLog) -> RunLog:
    """Start the attack's MLflow run, or reopen the one that was stopped."""
    attack, evaluation = plan.attack, plan.evaluation
    if evaluation.artifact_uri is not None:
        return bench.tracker.reopen(evaluation.mlflow_run_id, bench.locate(evaluation.artifact_uri), parent)
    run = bench.tracker.start(
        plan.title, uid=evaluation.uid, parent=parent,
        params={
            **asdict(plan.config), "step_size": plan.config.step_size, "attack": attack.uid,
            "attacked_model": plan.attacked.row.uid, "attacked_seed": plan.attacked.row.seed,
            "evaluators": " ".join(member.row.uid for member in plan.evaluators),
        },
    )  # fmt: skip
    try:
        run.dataset(
            name=plan.dataset.name,
            digest=plan.dataset.fingerprint()[:16],
            source=plan.dataset.name,
            context="attack",
        )
        with bench.store.transaction() as session:
            for row in (session.get_one(Attack, attack.id), session.get_one(Evaluation, evaluation.id)):
                # An attack that is judged again keeps the folder of its own samples.
                if row.artifact_uri is None:
                    row.artifact_uri, row.mlflow_run_id = bench.relative(run.folder), run.run_id
    except BaseException:
        run.finish(KILLED)  # nobody else knows of it yet
        raise
    return run


def forget_run(bench: Workbench, plan: Plan) -> None:
    """Take the run's id back where MLflow lacks results: ``doctor --repair`` looks for rows without one."""
    with bench.store.transaction() as session:
        session.get_one(Evaluation, plan.evaluation.id).mlflow_run_id = None


def work_off(bench: Workbench, plan: Plan, baselines: Baselines, run: RunLog, device: torch.device) -> None:
    """Attack and score the chunks that are free, wait for those in other hands, then finish."""
    with bench.store.transaction() as session:
        write.write_evaluation_baselines(session, evaluation_id=plan.evaluation.id, baselines=baselines)
    prepared = PreparedModel(plan.attacked.network, device)
    n_attempts = len(plan.attempts)
    told = False
    with bench.progress.task(plan.title, n_attempts) as advance:
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
            attempts = plan.attempts.chunk(work.position, plan.attack.chunk_size)
            if work.to_attack:
                samples = make_samples(bench, plan, prepared, attempts, work.position, run)
            else:
                samples = read_samples(bench, plan, attempts, work.position)
            scores = judge(plan, samples, baselines, device)
            keep_scores(bench, plan, scores, work.position, run)
            advance(len(attempts))
    with bench.store.transaction() as session:
        runs.finish_evaluation(session, plan.attack, plan.evaluation)


def make_samples(
    bench: Workbench, plan: Plan, prepared: PreparedModel, attempts: Attempts, position: int, run: RunLog
) -> Samples:
    """Attack one chunk and keep what came out: the file first, then the rows."""
    config = plan.config
    samples = perturb(
        prepared, plan.dataset.splits[config.split], attempts, plan.attacked.logits[config.split],
        config, plan.attack.chunk_size,
    )  # fmt: skip
    path = run.folder / "samples" / f"chunk-{position:05d}.npz"
    sha256 = _save_arrays(
        path,
        sample_index=attempts.sample_index,
        requested_target=attempts.requested_target,
        delta=samples.delta,
        logits=samples.logits,
    )
    with bench.store.transaction() as session:
        write.write_samples(session, attack_id=plan.attack.id, samples=samples)
        chunk = session.get_one(AttackChunk, (plan.attack.id, position))
        runs.finish_chunk(chunk, uri=bench.relative(path), sha256=sha256)
    run.file(path, "samples")
    return samples


def read_samples(bench: Workbench, plan: Plan, attempts: Attempts, position: int) -> Samples:
    """Load one chunk of stored samples, as they were scored.

    Raises:
        CheckpointError: the file is missing or altered.
    """
    with bench.store.transaction() as session:
        chunk = session.get_one(AttackChunk, (plan.attack.id, position))
        stored = write.read_samples(session, attack_id=plan.attack.id, attempts=attempts)
    path = bench.locate(chunk.uri or "")
    content = path.read_bytes() if path.is_file() else b""
    if sha256_of(content) != chunk.sha256:
        raise CheckpointError(f"samples {path} are missing or altered; restore the file from a backup")
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        return Samples(attempts=attempts, delta=arrays["delta"], logits=arrays["logits"], **stored)


def judge(plan: Plan, samples: Samples, baselines: Baselines, device: torch.device) -> Scores:
    """Let the evaluators compare each clean image with its adversarial one, in float32."""
    split = plan.dataset.splits[plan.config.split]
    rows = split.rows_of(samples.attempts.sample_index)
    x_adv = apply_delta(split.batch(rows), torch.from_numpy(samples.delta)).to(device)
    return score(
        samples,
        np.stack([member.logits[plan.config.split][rows] for member in plan.evaluators]),
        np.stack([forward(member.network, x_adv) for member in plan.evaluators]),
        plan.attacked.logits[plan.config.split][rows],
        baselines,
    )


def keep_scores(bench: Workbench, plan: Plan, scores: Scores, position: int, run: RunLog) -> None:
    """Keep one chunk of scores: the evaluators' logits as a file first, then the rows."""
    path = run.folder / "scores" / f"chunk-{position:05d}.npz"
    sha256 = _save_arrays(
        path,
        sample_index=scores.attempts.sample_index,
        requested_target=scores.attempts.requested_target,
        logits=scores.logits,
    )
    with bench.store.transaction() as session:
        write.write_scores(session, evaluation_id=plan.evaluation.id, scores=scores)
        chunk = session.get_one(EvaluationChunk, (plan.evaluation.id, position))
        runs.finish_chunk(chunk, uri=bench.relative(path), sha256=sha256)
    run.file(path, "scores")


def _save_arrays(path: Path, **arrays: NDArray[np.generic]) -> str:
    """Write arrays as one .npz; equal arrays give equal bytes (no time stamps inside)."""
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]
    return write_atomically(path, buffer.getvalue())
