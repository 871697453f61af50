"""What will be done, as rows: an attack, its evaluation and all their chunks, found or made."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from sqlalchemy.orm import Session
from torch import nn

from jsdelta_db import __version__
from jsdelta_db.attacks import choose_attempts, plan_chunk_size
from jsdelta_db.attacks.targets import choose_images
from jsdelta_db.config import AttackConfig, EvaluationConfig, config_hash
from jsdelta_db.data import Dataset
from jsdelta_db.errors import NothingToDoError
from jsdelta_db.members import member_baselines
from jsdelta_db.metrics import combine_baselines
from jsdelta_db.records import Attempts, Baselines, label_pair
from jsdelta_db.store import runs, write
from jsdelta_db.store.schema import (
    FINISHED,
    PENDING,
    Attack,
    AttackChunk,
    Ensemble,
    Evaluation,
    EvaluationChunk,
    EvaluationMember,
    Model,
)
from jsdelta_db.store.schema import Dataset as DatasetRow
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
    """Find or make the rows of one attack and its evaluation.

    Raises:
        NothingToDoError: no image is left to attack, or nobody to judge.
    """
    evaluators = choose_evaluators(ensemble, attacked, members)
    judges = [each.row.uid for each in evaluators]
    images = choose_images(dataset.splits[config.split], config.images)
    attempts = choose_all_attempts(config, dataset, attacked, images)

    def new_attack() -> Attack:
        n_right = len(_right_images(config, dataset, attacked, images))
        return Attack(
            attacked_model_id=attacked.row.id, attacked_sha256=attacked.row.checkpoint_sha256,
            dataset_id=dataset_row.id, split=config.split, norm=config.norm, eps=config.eps,
            steps=config.steps, step_size=config.step_size, random_start=config.random_start,
            restarts=config.restarts, target_rule=config.targets, objective=config.objective,
            stop=config.stop, seed=config.seed, images=config.images, library="jsdelta",
            library_version=__version__, chunk_size=plan_chunk_size(dataset.image_shape, device),
            n_images=len(images), n_skipped=len(images) - n_right, n_attempts=len(attempts),
            requested_device=config.device, requested_dtype=config.dtype, device=device.type,
            dtype=config.dtype, threads=torch.get_num_threads(),
        )  # fmt: skip

    with bench.store.transaction() as session:
        attack_hash = config_hash(config.canonical(), [dataset_row.uid, attacked.row.uid])
        attack = runs.find_or_create(session, Attack, attack_hash, new_attack)
        evaluation = runs.find_or_create(
            session,
            Evaluation,
            config_hash(rules.canonical(), [attack.uid, ensemble.uid, *judges]),
            lambda: Evaluation(
                attack_id=attack.id, attacked_sha256=attack.attacked_sha256, ensemble_id=ensemble.id,
                temperature_rule=rules.temperature, baseline_rule=rules.baseline,
            ),
        )  # fmt: skip
        _plan_chunks(session, attack, evaluation, attempts)
        _enter_evaluators(session, attack, evaluation, evaluators)
    return Plan(attack, evaluation, config, dataset, attacked, evaluators, attempts)


def choose_evaluators(ensemble: Ensemble, attacked: Member, members: Sequence[Member]) -> list[Member]:
    """Return the members whose weights are not the attacked model's: a fooled model must not judge itself.

    Raises:
        NothingToDoError: there is none.
    """
    evaluators = [each for each in members if each.row.checkpoint_sha256 != attacked.row.checkpoint_sha256]
    if not evaluators:
        raise NothingToDoError(
            f"every member of {ensemble.name!r} has the same weights, so none can judge another"
        )
    return evaluators


def choose_all_attempts(
    config: AttackConfig, dataset: Dataset, attacked: Member, images: NDArray[np.int64]
) -> Attempts:
    """Aim the images that the attacked model has right at their targets.

    Args:
        config, dataset, attacked: what is attacked and how.
        images: rows of the split, ``(n,)``.

    Raises:
        NothingToDoError: there is no such image.
    """
    split = dataset.splits[config.split]
    right = _right_images(config, dataset, attacked, images)
    attempts = choose_attempts(
        config.targets, split.index[right], split.labels.numpy()[right], dataset.classes, config.seed
    )
    if not len(attempts):
        raise NothingToDoError(
            f"model seed {attacked.row.seed} calls none of {len(images)} images by their label, "
            f"or --targets {config.targets} leaves none; try more --images or train longer"
        )
    return attempts


def _right_images(
    config: AttackConfig, dataset: Dataset, attacked: Member, images: NDArray[np.int64]
) -> NDArray[np.int64]:
    said = attacked.logits[config.split][images].argmax(1)
    right: NDArray[np.int64] = images[said == dataset.splits[config.split].labels.numpy()[images]]
    return right


def _plan_chunks(session: Session, attack: Attack, evaluation: Evaluation, attempts: Attempts) -> None:
    chunks = range(-(-attack.n_attempts // attack.chunk_size))
    sizes = [len(attempts.chunk(position, attack.chunk_size)) for position in chunks]
    for table, parent, parent_id in (
        (AttackChunk, "attack_id", attack.id),
        (EvaluationChunk, "evaluation_id", evaluation.id),
    ):
        rows = [(parent_id, position, PENDING, sizes[position]) for position in chunks]
        write.insert_rows(session, table, (parent, "position", "status", "n_attempts"), rows)


def _enter_evaluators(
    session: Session, attack: Attack, evaluation: Evaluation, evaluators: Sequence[Member]
) -> None:
    for position, member in enumerate(evaluators):
        if session.get(EvaluationMember, (evaluation.id, position)) is None:
            session.add(
                EvaluationMember(
                    evaluation_id=evaluation.id, position=position, model_id=member.row.id,
                    model_sha256=member.row.checkpoint_sha256, attacked_sha256=attack.attacked_sha256,
                )
            )  # fmt: skip


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
