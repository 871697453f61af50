"""Plans: an attack, an evaluation of it and their chunks as rows, found or made."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from sqlalchemy.orm import Session

from jsdelta_db.compute.attacks import choose_attempts, plan_chunk_size
from jsdelta_db.compute.attacks.targets import choose_images
from jsdelta_db.compute.metrics.draws import draws
from jsdelta_db.config.attack import AttackConfig
from jsdelta_db.config.checks import device_kind
from jsdelta_db.config.eps import format_eps
from jsdelta_db.config.evaluation import EvaluationConfig
from jsdelta_db.errors import NothingToDoError
from jsdelta_db.pipeline.evaluation.called import CalledSamples, method_columns, prepare_steps
from jsdelta_db.pipeline.evaluation.finished import EvaluationRows, attack_key, evaluation_key
from jsdelta_db.pipeline.evaluation.open_roles import OpenRoles
from jsdelta_db.pipeline.evaluation.remade import check_remade
from jsdelta_db.pipeline.evaluation.sources import AttackedSamples, MadeChunk, SampleSource, StoredSamples
from jsdelta_db.records import UNTARGETED, Attempts, LabelPair, label_pair
from jsdelta_db.runtime.cards import card_of
from jsdelta_db.runtime.memory import SubBatch
from jsdelta_db.store import runs
from jsdelta_db.store.clock import read_clock
from jsdelta_db.store.inserting import insert_rows
from jsdelta_db.store.schema import (
    FINISHED,
    PENDING,
    Attack,
    AttackChunk,
    AttackSurrogate,
    Evaluation,
    EvaluationChunk,
    EvaluationMember,
)


@dataclass(frozen=True, slots=True)
class Plan:
    """All that is needed to work on one attack and one evaluation of it.

    Attributes:
        temperatures: one an evaluator.
        pairs: label pairs that the samples may have, as far as they are known before them.
        source: of chunks that are not stored yet.
        sub_batch: attempts that evaluators are shown at a time.
    """

    roles: OpenRoles
    attack: Attack
    evaluation: Evaluation
    temperatures: Sequence[float]
    pairs: frozenset[LabelPair]
    source: SampleSource
    sub_batch: SubBatch = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "sub_batch", SubBatch(self.attack.chunk_size))

    @property
    def is_finished(self) -> bool:
        """Whether there is no work left."""
        return self.evaluation.status == FINISHED

    @property
    def rows(self) -> EvaluationRows:
        """Its rows."""
        return EvaluationRows(self.roles.rows, self.attack, self.evaluation)

    @property
    def only_reads(self) -> bool:
        """Whether all samples are stored."""
        return isinstance(self.source, StoredSamples)

    @property
    def chunks(self) -> range:
        """Positions of the attack's chunks."""
        return range(-(-self.attack.n_attempts // self.attack.chunk_size))

    @property
    def title(self) -> str:
        """Name of the attack for people."""
        attack = self.attack
        kind = "attack" if attack.objective == "target" else f"{attack.objective} attack"
        if attack.attack_by is not None:
            kind = f"{attack.library} attack"
        elif attack.steps == 0:  # made elsewhere
            kind = f"{attack.library} samples"
        if self.only_reads:
            kind = f"scores of {kind}"
        return f"{kind} on {self.roles.attacked.title}, ε = {format_eps(attack.eps, attack.norm)}"

    def stored_chunk(self, position: int) -> MadeChunk:
        """Return a chunk that was attacked before; without its perturbations it is made once more.

        Raises:
            CheckpointError: its file is missing or altered.
            UsageError: made once more it is not what was stored.
        """
        roles = self.roles
        if self.attack.keeps_samples:
            return StoredSamples(roles.bench, self.attack, roles.attacked).chunk(position)
        with roles.bench.store.read_session() as session:
            stored = session.get_one(AttackChunk, (self.attack.id, position))
        made = self.source.chunk(position, stored.sub_batch)
        check_remade(roles.bench, self.attack, position, made, card_of(roles.attacked.device))
        return made


@dataclass(frozen=True, slots=True)
class _Aim:
    """Images of an attack, those that the attacked model calls by their label, and the attempts on these."""

    images: NDArray[np.int64]
    right: NDArray[np.int64]
    attempts: Attempts


def plan_attack(
    roles: OpenRoles, config: AttackConfig, rules: EvaluationConfig, *, keeps_samples: bool = True
) -> Plan:
    """Find or make the rows of one attack and its evaluation; from now on both are at work.

    Raises:
        NothingToDoError: no image is left to attack.
        UsageError: the model cannot be attacked in the dtype asked for.
    """
    aim = _aim(roles, config)
    key = attack_key(config, roles.rows, roles.dataset_row)
    store = roles.bench.store
    with store.read_session() as session:
        is_known = runs.find_run(session, Attack, key) is not None
    make = partial(_new_attack, roles, config, aim, keeps_samples)
    new = None if is_known else make()  # before the lock is taken: the model is loaded and probed for it
    temperatures = find_temperatures(roles, rules)
    with store.transaction() as session:
        attack = runs.find_or_create(session, Attack, key, lambda: new or make())
        insert_chunks(session, attack)
        for position, surrogate in enumerate(roles.surrogates):
            session.merge(AttackSurrogate(attack_id=attack.id, position=position, model_id=surrogate.row.id))
        evaluation = store_evaluation(session, roles, attack, rules, temperatures)
    source = _source(roles, attack, config, aim)
    pairs = possible_pairs(aim.attempts, len(roles.dataset.classes))
    return Plan(roles, attack, evaluation, temperatures, pairs, source)


def _source(roles: OpenRoles, attack: Attack, config: AttackConfig, aim: _Aim) -> SampleSource:
    if config.attack_by is None:
        return AttackedSamples(attack, config, aim.attempts, roles.attacked, roles.surrogates)
    return CalledSamples(config.attack_by, config, attack.chunk_size, aim.attempts, roles.attacked)


def _aim(roles: OpenRoles, config: AttackConfig) -> _Aim:
    split, logits = roles.dataset.splits[config.split], roles.attacked.logits(config.split)
    images, labels = choose_images(split, config.images), split.labels.numpy()
    right = images[logits[images].argmax(1) == labels[images]]
    attempts = choose_attempts(
        config.targets, split.index[right], labels[right], roles.dataset.classes, config.seed, logits[right]
    )
    if not len(attempts):
        raise NothingToDoError(
            f"model {roles.attacked.title} calls none of {len(images)} images by their label, "
            f"or --targets {config.targets} leaves none; try more --images or train longer"
        )
    return _Aim(images, right, attempts)


def _new_attack(roles: OpenRoles, config: AttackConfig, aim: _Aim, keeps_samples: bool) -> Attack:
    """Return an attack's row: as requested, and as resolved on this machine.

    The counts of the plan stand here and not on the chunks: they are fixed now, and a chunk is then its
    attempts and nothing else.
    """
    attacked, dataset = roles.attacked, roles.dataset
    decided = prepare_steps((attacked, *roles.surrogates), config)
    prepared = attacked.prepared(decided.dtype, decided.prepared_as)
    chunk_size = roles.bench.chunk_size or plan_chunk_size(
        dataset.image_shape, prepared, len(aim.attempts), len(roles.surrogates)
    )
    attack = Attack(
        attacked_model_id=attacked.row.id, attacked_sha256=attacked.row.checkpoint_sha256,
        dataset_id=roles.dataset_row.id, split=config.split, norm=config.norm, eps=config.eps,
        target_rule=config.targets, seed=config.seed, images=config.images, chunk_size=chunk_size,
        n_images=len(aim.images), n_skipped=len(aim.images) - len(aim.right),
        n_attempts=len(aim.attempts), requested_device=device_kind(config.device),
        device=attacked.device.type, dtype=decided.dtype, prepared_as=decided.prepared_as,
        threads=torch.get_num_threads(), keeps_samples=keeps_samples, **method_columns(config),
    )  # fmt: skip
    source = _source(roles, attack, config, aim)
    if isinstance(source, CalledSamples):
        source.try_out()
    return attack


def possible_pairs(attempts: Attempts, n_classes: int) -> frozenset[LabelPair]:
    """Return the label pairs that attempts aim at; of untargeted ones to few classes all possible."""
    pairs = set()
    reachable = range(0 if draws(n_classes) else n_classes)
    for source, target in {
        *zip(attempts.source_label.tolist(), attempts.requested_target.tolist(), strict=True)
    }:
        targets = reachable if target == UNTARGETED else (target,)
        pairs |= {label_pair(source, each) for each in targets if each != source}
    return frozenset(pairs)


def insert_chunks(session: Session, attack: Attack, evaluation: Evaluation | None = None) -> None:
    """Store the chunks of an attack, or of an evaluation of it, that are not there yet."""
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


def find_temperatures(roles: OpenRoles, rules: EvaluationConfig) -> list[float]:
    """Return the evaluators' softmax temperatures: computed before a lock is taken."""
    return [each.temperature(rules.temperature) for each in roles.evaluators]


def store_evaluation(
    session: Session, roles: OpenRoles, attack: Attack, rules: EvaluationConfig, temperatures: Sequence[float]
) -> Evaluation:
    """Find or make the row of an evaluation: these evaluators, judging this attack by these rules.

    In the transaction that stores the attack, so that neither is ever there without being at work.
    """
    ensemble = roles.rows.ensemble
    evaluation = runs.find_or_create(
        session,
        Evaluation,
        evaluation_key(rules, roles.rows, attack),
        lambda: Evaluation(
            attack_id=attack.id, attacked_sha256=attack.attacked_sha256,
            ensemble_id=ensemble.id if ensemble else None,
            temperature_rule=rules.temperature, baseline_rule=rules.baseline,
        ),
    )  # fmt: skip
    insert_chunks(session, attack, evaluation)
    for position, (member, temperature) in enumerate(zip(roles.evaluators, temperatures, strict=True)):
        session.merge(
            EvaluationMember(
                evaluation_id=evaluation.id, position=position, model_id=member.row.id,
                model_sha256=member.row.checkpoint_sha256, attacked_sha256=attack.attacked_sha256,
                temperature=temperature,
            )
        )  # fmt: skip
    runs.hold(evaluation, read_clock(session))
    return evaluation


def plan_stored(
    roles: OpenRoles, attack: Attack, pairs: frozenset[LabelPair], rules: EvaluationConfig
) -> Plan:
    """Find or make the row of an evaluation of samples that are stored."""
    source = StoredSamples(roles.bench, attack, roles.attacked)
    temperatures = find_temperatures(roles, rules)
    with roles.bench.store.transaction() as session:
        evaluation = store_evaluation(session, roles, attack, rules, temperatures)
    return Plan(roles, attack, evaluation, temperatures, pairs, source)
