"""Finished evaluations, found by their configuration: where all that was asked for is there, rows answer.

No image, network or MLflow run is touched for it, so that neither torch nor MLflow is loaded.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy.orm import Session

from jsdelta_db.config.attack import AttackConfig
from jsdelta_db.config.controls import INVARIANCE, PAIRS
from jsdelta_db.config.evaluation import EvaluationConfig
from jsdelta_db.config.hashing import config_hash
from jsdelta_db.pipeline.evaluation.roles import Roles
from jsdelta_db.store import runs
from jsdelta_db.store.attempts import count_without_stability
from jsdelta_db.store.controls import list_controls
from jsdelta_db.store.schema import FINISHED, Attack, Dataset, Evaluation


@dataclass(frozen=True, slots=True)
class Extras:
    """Measurements beside JSΔ.

    Attributes:
        controls: pairs with a known answer, judged by the same code.
        stability: of the successful samples, and the sharpness of the attacked model.
    """

    controls: bool = False
    stability: bool = False


@dataclass(frozen=True, slots=True)
class EvaluationRows:
    """The rows of an evaluation, of its attack and of the models that take part."""

    roles: Roles
    attack: Attack
    evaluation: Evaluation


@dataclass(frozen=True, slots=True)
class Judged:
    """Finished evaluations of one call.

    Attributes:
        evaluations, attacks: uids, in the order of the plans; one attack each.
        worked_on: how many of them were not finished before.
    """

    evaluations: Sequence[str]
    attacks: Sequence[str]
    worked_on: int

    @classmethod
    def of(cls, rows: Sequence[EvaluationRows], worked_on: int = 0) -> "Judged":
        """Return the outcome of a call."""
        return cls([each.evaluation.uid for each in rows], [each.attack.uid for each in rows], worked_on)


def attack_key(config: AttackConfig, roles: Roles, dataset: Dataset) -> str:
    """Return the hash of an attack's configuration, its images and the models that it looks at."""
    models = (roles.attacked, *roles.surrogates)
    return config_hash(config.canonical(), [dataset.uid, *(model.uid for model in models)])


def evaluation_key(rules: EvaluationConfig, roles: Roles, attack: Attack) -> str:
    """Return the hash of an evaluation's rules, its attack and its evaluators."""
    ensemble = [roles.ensemble.uid] if roles.ensemble else []
    return config_hash(rules.canonical(), [attack.uid, *ensemble, *(model.uid for model in roles.evaluators)])


def find_attacked(
    session: Session, found: Iterable[Roles], dataset: Dataset, configs: Sequence[AttackConfig]
) -> list[tuple[Roles, Attack]] | None:
    """Return the attacks of some roles by each configuration; None if one was never begun."""
    pairs = []
    for roles in found:
        for config in configs:
            attack = runs.find_run(session, Attack, attack_key(config, roles, dataset))
            if attack is None:
                return None
            pairs.append((roles, attack))
    return pairs


def find_finished(
    session: Session, pairs: Iterable[tuple[Roles, Attack]], rules: EvaluationConfig, extras: Extras
) -> list[EvaluationRows] | None:
    """Return the evaluations of attacks by some rules; None if anything that was asked for is missing."""
    rows = []
    for roles, attack in pairs:
        evaluation = runs.find_run(session, Evaluation, evaluation_key(rules, roles, attack))
        if evaluation is None or evaluation.status != FINISHED:
            return None
        rows.append(EvaluationRows(roles, attack, evaluation))
    return rows if all(_has_extras(session, each, extras) for each in rows) else None


def _has_extras(session: Session, rows: EvaluationRows, extras: Extras) -> bool:
    if extras.controls:
        known = list_controls(session, evaluation_id=rows.evaluation.id)
        if not known >= {*PAIRS, *INVARIANCE}:
            return False
    return not extras.stability or (
        rows.roles.attacked.sharpness is not None
        and not count_without_stability(session, attack_id=rows.attack.id)
    )
