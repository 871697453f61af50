"""What will be done, as rows: an attack, an evaluation of it, and their chunks, found or made."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from sqlalchemy.orm import Session

from jsdelta_db.compute.attacks import (
    PreparedAttack,
    choose_attempts,
    choose_dtype,
    perturb,
    plan_chunk_size,
)
from jsdelta_db.compute.attacks.targets import choose_images
from jsdelta_db.compute.data import Dataset
from jsdelta_db.compute.metrics import combine_baselines
from jsdelta_db.config.attack import AttackConfig
from jsdelta_db.config.eps import format_eps
from jsdelta_db.config.evaluation import EvaluationConfig
from jsdelta_db.config.hashing import config_hash
from jsdelta_db.errors import NothingToDoError
from jsdelta_db.records import UNTARGETED, Attempts, Baselines, LabelPair, Samples, label_pair
from jsdelta_db.runtime.version import installed_version
from jsdelta_db.store import runs
from jsdelta_db.store.inserting import insert_rows
from jsdelta_db.store.schema import (
    FINISHED,
    PENDING,
    Attack,
    AttackChunk,
    AttackSurrogate,
    Ensemble,
    Evaluation,
    EvaluationChunk,
    EvaluationMember,
)
from jsdelta_db.store.schema import Dataset as DatasetRow
from jsdelta_db.workbench.models import LoadedModel
from jsdelta_db.workbench.workbench import Workbench

MakeChunk = Callable[[int], Samples]


@dataclass(frozen=True, slots=True)
class PlannedAttack:
    """An attack's row and how its chunks come about.

    Attributes:
        pairs: label pairs that its samples may have.
        make: position → the samples of that chunk; None where all of them are stored.
    """

    attack: Attack
    attacked: LoadedModel
    pairs: frozenset[LabelPair]
    make: MakeChunk | None


@dataclass(frozen=True, slots=True)
class Plan:
    """All that is needed to work on one attack and one evaluation of it."""

    attack: Attack
    evaluation: Evaluation
    dataset: Dataset
    dataset_uid: str
    attacked: LoadedModel
    evaluators: Sequence[LoadedModel]
    temperatures: Sequence[float]
    pairs: frozenset[LabelPair]
    make: MakeChunk | None

    @property
    def is_finished(self) -> bool:
        """Whether there is no work left."""
        return self.evaluation.status == FINISHED

    @property
    def title(self) -> str:
        """What people call this attack."""
        attack = self.attack
        what = "attack" if attack.objective == "target" else f"{attack.objective} attack"
        if attack.steps == 0:  # made elsewhere
            what = f"{attack.library} samples"
        if self.make is None:
            what = f"scores of {what}"
        return f"{what} on {self.attacked.title}, ε = {format_eps(attack.eps, attack.norm)}"


def plan_attack(
    bench: Workbench,
    config: AttackConfig,
    dataset: Dataset,
    dataset_row: DatasetRow,
    attacked: LoadedModel,
    surrogates: Sequence[LoadedModel],
    *,
    keeps_samples: bool = True,
) -> PlannedAttack:
    """Find or make the row of one attack.

    Raises:
        NothingToDoError: no image is left to attack.
        UsageError: the model cannot be attacked in the dtype asked for.
    """
    images = choose_images(dataset.splits[config.split], config.images)
    right = _right_images(config, dataset, attacked, images)
    attempts = _aim(config, dataset, attacked, images, right)
    parents = [dataset_row.uid, attacked.row.uid, *(each.row.uid for each in surrogates)]
    key = config_hash(config.canonical(), parents)

    def new_attack() -> Attack:
        device = attacked.device
        few = dataset.splits["baseline"].batch(slice(0, 2))
        dtype = str(choose_dtype(config.dtype, attacked.network, device, few)).removeprefix("torch.")
        chunk_size = plan_chunk_size(
            dataset.image_shape, attacked.prepared(dtype), len(attempts), len(surrogates)
        )
        return Attack(
            attacked_model_id=attacked.row.id, attacked_sha256=attacked.row.checkpoint_sha256,
            dataset_id=dataset_row.id, split=config.split, norm=config.norm, eps=config.eps,
            steps=config.steps, step_size=config.step_size, random_start=config.random_start,
            restarts=config.restarts, target_rule=config.targets, objective=config.objective,
            stop=config.stop, seed=config.seed, images=config.images, library="jsdelta",
            library_version=installed_version(), chunk_size=chunk_size,
            n_images=len(images), n_skipped=len(images) - len(right), n_attempts=len(attempts),
            requested_device=config.device, requested_dtype=config.dtype, device=device.type,
            dtype=dtype, threads=torch.get_num_threads(),
            keeps_samples=keeps_samples,
        )  # fmt: skip

    with bench.store.transaction() as session:
        attack = runs.find_or_create(session, Attack, key, new_attack)
        enter_chunks(session, attack)
        for position, surrogate in enumerate(surrogates):
            session.merge(AttackSurrogate(attack_id=attack.id, position=position, model_id=surrogate.row.id))

    def make(position: int) -> Samples:
        prepared, *held = (each.prepared(attack.dtype) for each in (attacked, *surrogates))
        chunk = attempts.chunk(position, attack.chunk_size)
        split = dataset.splits[config.split]
        rows = split.rows_of(chunk.sample_index)
        return perturb(
            PreparedAttack(prepared, held, config, attack.chunk_size), chunk, split.batch(rows),
            attacked.logits(config.split)[rows],
        )  # fmt: skip

    return PlannedAttack(attack, attacked, possible_pairs(attempts, len(dataset.classes)), make)


def _right_images(
    config: AttackConfig, dataset: Dataset, attacked: LoadedModel, images: NDArray[np.int64]
) -> NDArray[np.int64]:
    said = attacked.logits(config.split)[images].argmax(1)
    right: NDArray[np.int64] = images[said == dataset.splits[config.split].labels.numpy()[images]]
    return right


def _aim(
    config: AttackConfig,
    dataset: Dataset,
    attacked: LoadedModel,
    images: NDArray[np.int64],
    right: NDArray[np.int64],
) -> Attempts:
    split = dataset.splits[config.split]
    attempts = choose_attempts(
        config.targets, split.index[right], split.labels.numpy()[right], dataset.classes, config.seed,
        attacked.logits(config.split)[right],
    )  # fmt: skip
    if not len(attempts):
        raise NothingToDoError(
            f"model {attacked.title} calls none of {len(images)} images by their label, "
            f"or --targets {config.targets} leaves none; try more --images or train longer"
        )
    return attempts


def possible_pairs(attempts: Attempts, n_classes: int) -> frozenset[LabelPair]:
    """Return the label pairs that attempts aim at; where they aim at none, all that they could reach."""
    pairs = set()
    for source, target in {
        *zip(attempts.source_label.tolist(), attempts.requested_target.tolist(), strict=True)
    }:
        targets = range(n_classes) if target == UNTARGETED else (target,)
        pairs |= {label_pair(source, each) for each in targets if each != source}
    return frozenset(pairs)


def enter_chunks(session: Session, attack: Attack, evaluation: Evaluation | None = None) -> None:
    """Enter the chunks of an attack, or of an evaluation of it, if they are not there."""
    table, parent, parent_id = (
        (AttackChunk, "attack_id", attack.id)
        if evaluation is None
        else (EvaluationChunk, "evaluation_id", evaluation.id)
    )
    sizes = [
        min(attack.chunk_size, attack.n_attempts - start)
        for start in range(0, attack.n_attempts, attack.chunk_size)
    ]
    rows = [(parent_id, position, PENDING, size) for position, size in enumerate(sizes)]
    insert_rows(session, table, (parent, "position", "status", "n_attempts"), rows)


def plan_evaluation(
    bench: Workbench,
    planned: PlannedAttack,
    rules: EvaluationConfig,
    dataset: Dataset,
    dataset_row: DatasetRow,
    evaluators: Sequence[LoadedModel],
    ensemble: Ensemble | None,
) -> Plan:
    """Find or make the row of an evaluation: these evaluators, judging this attack by these rules."""
    attack = planned.attack
    temperatures = [each.temperature(rules.temperature) for each in evaluators]
    parents = [attack.uid, *([ensemble.uid] if ensemble else []), *(each.row.uid for each in evaluators)]
    with bench.store.transaction() as session:
        evaluation = runs.find_or_create(
            session,
            Evaluation,
            config_hash(rules.canonical(), parents),
            lambda: Evaluation(
                attack_id=attack.id, attacked_sha256=attack.attacked_sha256,
                ensemble_id=ensemble.id if ensemble else None,
                temperature_rule=rules.temperature, baseline_rule=rules.baseline,
            ),
        )  # fmt: skip
        enter_chunks(session, attack, evaluation)
        for position, (member, temperature) in enumerate(zip(evaluators, temperatures, strict=True)):
            session.merge(
                EvaluationMember(
                    evaluation_id=evaluation.id, position=position, model_id=member.row.id,
                    model_sha256=member.row.checkpoint_sha256, attacked_sha256=attack.attacked_sha256,
                    temperature=temperature,
                )
            )  # fmt: skip
    return Plan(
        attack, evaluation, dataset, dataset_row.uid, planned.attacked, evaluators, temperatures,
        planned.pairs, planned.make,
    )  # fmt: skip


def find_baselines(plan: Plan) -> Baselines:
    """Return the evaluators' baselines for the label pairs that the attack's samples may have."""
    rule = plan.evaluation.temperature_rule
    return combine_baselines(
        [member.baselines(plan.pairs, rule) for member in plan.evaluators],
        [
            member.logits("baseline") / np.float32(temperature)
            for member, temperature in zip(plan.evaluators, plan.temperatures, strict=True)
        ],
        plan.dataset.splits["baseline"].labels.numpy(),
    )
