"""One attack and its evaluation: planned as rows, then worked off chunk by chunk."""

import io
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from jsdelta_db import __version__
from jsdelta_db.attacks import PreparedModel, choose_attempts, perturb, plan_chunk_size
from jsdelta_db.attacks.perturb import apply_delta
from jsdelta_db.attacks.targets import choose_images
from jsdelta_db.config import AttackConfig, EvaluationConfig, config_hash
from jsdelta_db.data import Dataset
from jsdelta_db.errors import CheckpointError, NothingToDoError
from jsdelta_db.files import sha256_of, write_atomically
from jsdelta_db.leases import describe
from jsdelta_db.members import POLL_SECONDS, member_baselines
from jsdelta_db.metrics import combine_baselines, score
from jsdelta_db.models.inference import forward
from jsdelta_db.records import Attempts, Baselines, Samples, Scores, label_pair
from jsdelta_db.store import runs, write
from jsdelta_db.store.schema import (
    FINISHED,
    Attack,
    AttackChunk,
    Ensemble,
    Evaluation,
    EvaluationChunk,
    EvaluationMember,
    Model,
)
from jsdelta_db.store.schema import Dataset as DatasetRow
from jsdelta_db.tracking import RunLog
from jsdelta_db.workbench import Workbench


@dataclass(frozen=True, slots=True)
class Member:
    """A loaded model: its row, the network, and its clean logits by split."""

    row: Model
    network: nn.Module
    logits: Mapping[str, NDArray[np.float32]]


@dataclass(frozen=True, slots=True)
class Plan:
    """All that is needed to work on one attack and its evaluation."""

    attack: Attack
    evaluation: Evaluation
    config: AttackConfig
    dataset: Dataset
    attacked: Member
    evaluators: Sequence[Member]
    attempts: Attempts

    @property
    def is_finished(self) -> bool:
        """Whether there is no work left."""
        return self.evaluation.status == FINISHED

    @property
    def title(self) -> str:
        """What people call this attack."""
        return f"attack on seed {self.attacked.row.seed}, ε = {self.config.eps * 255:g}/255"


def plan(
    bench: Workbench,
    config: AttackConfig,
    rules: EvaluationConfig,
    dataset: Dataset,
    dataset_row: DatasetRow,
    ensemble: Ensemble,
    attacked: Member,
    members: Sequence[Member],
    device: torch.device,
) -> Plan:
    """Find or make the rows of an attack, its evaluation and all their chunks.

    The evaluators are the members whose weights are not the attacked model's: a fooled model must not
    judge itself.

    Raises:
        NothingToDoError: no image is left to attack, or nobody to judge.
    """
    evaluators = [each for each in members if each.row.checkpoint_sha256 != attacked.row.checkpoint_sha256]
    if not evaluators:
        raise NothingToDoError(
            f"every member of {ensemble.name!r} has the same weights, so none can judge another"
        )
    split = dataset.splits[config.split]
    images = choose_images(split, config.images)
    labels = split.labels.numpy()
    right = images[attacked.logits[config.split][images].argmax(1) == labels[images]]
    attempts = choose_attempts(
        config.targets, split.index[right], labels[right], dataset.classes, config.seed
    )
    if not len(attempts):
        raise NothingToDoError(
            f"model seed {attacked.row.seed} calls none of {len(images)} images by their label, "
            f"or --targets {config.targets} leaves none; try more --images or train longer"
        )

    def new_attack() -> Attack:
        return Attack(
            attacked_model_id=attacked.row.id, attacked_sha256=attacked.row.checkpoint_sha256,
            dataset_id=dataset_row.id, split=config.split, norm=config.norm, eps=config.eps,
            steps=config.steps, step_size=config.step_size, random_start=config.random_start,
            restarts=config.restarts,
            target_rule=config.targets, objective=config.objective, stop=config.stop, seed=config.seed,
            images=config.images, library="jsdelta", library_version=__version__,
            chunk_size=plan_chunk_size(dataset.image_shape, device), n_images=len(images),
            n_skipped=len(images) - len(right), n_attempts=len(attempts), requested_device=config.device,
            requested_dtype=config.dtype, device=device.type, dtype=config.dtype,
            threads=torch.get_num_threads(),
        )  # fmt: skip

    with bench.store.transaction() as session:
        attack_hash = config_hash(config.canonical(), [dataset_row.uid, attacked.row.uid])
        attack = runs.find_or_create(session, Attack, attack_hash, new_attack)
        evaluation = runs.find_or_create(
            session,
            Evaluation,
            config_hash(rules.canonical(), [attack.uid, *(member.row.uid for member in evaluators)]),
            lambda: Evaluation(
                attack_id=attack.id, attacked_sha256=attack.attacked_sha256, ensemble_id=ensemble.id,
                temperature_rule=rules.temperature, baseline_rule=rules.baseline,
            ),
        )  # fmt: skip
        chunks = -(-attack.n_attempts // attack.chunk_size)
        for position in range(chunks):
            size = len(attempts.chunk(position, attack.chunk_size))
            for table, parent in (
                (AttackChunk, {"attack_id": attack.id}),
                (EvaluationChunk, {"evaluation_id": evaluation.id}),
            ):
                if session.get(table, {**parent, "position": position}) is None:
                    session.add(table(**parent, position=position, n_attempts=size))
        for position, member in enumerate(evaluators):
            if session.get(EvaluationMember, (evaluation.id, position)) is None:
                session.add(
                    EvaluationMember(
                        evaluation_id=evaluation.id, position=position, model_id=member.row.id,
                        model_sha256=member.row.checkpoint_sha256, attacked_sha256=attack.attacked_sha256,
                    )
                )  # fmt: skip
    return Plan(attack, evaluation, config, dataset, attacked, evaluators, attempts)


def find_baselines(bench: Workbench, plan: Plan) -> Baselines:
    """Return the evaluators' baselines for the label pairs that the attack aims at: the same at every ε."""
    labels = plan.dataset.splits["baseline"].labels.numpy()
    pairs = {
        label_pair(int(y), int(t))
        for y, t in zip(plan.attempts.source_label, plan.attempts.requested_target, strict=True)
    }
    members = [
        member_baselines(bench, member.row, member.logits["baseline"], labels, plan.attack.dataset_id, pairs)
        for member in plan.evaluators
    ]
    return combine_baselines(members, [member.logits["baseline"] for member in plan.evaluators], labels)


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
    return run


def mark_unlogged(bench: Workbench, plan: Plan) -> None:
    """Take back the run's id if MLflow failed on the way: ``doctor --repair`` looks for rows without one."""
    if bench.tracker.failed:
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
