"""Divergences of successful samples, and the evaluations that judge alike at several ε."""

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from jsdelta_db.store.attempts import IS_COUNTED
from jsdelta_db.store.schema import FINISHED, Attack, Evaluation, EvaluationMember, Sample, Score

SAME = ("attacked_model_id", "dataset_id", "norm", "objective", "library")  # for a comparison over ε


def list_judged_alike(session: Session, attack: Attack, evaluation: Evaluation) -> list[tuple[int, int]]:
    """Return the finished evaluations by the same evaluators and rules, by ascending ε.

    Returns:
        The ids of each evaluation and of its attack.
    """
    statement = (
        select(Evaluation.id, Attack.id)
        .join(Attack, Attack.id == Evaluation.attack_id)
        .where(
            *(getattr(Attack, name) == getattr(attack, name) for name in SAME),
            Evaluation.status == FINISHED,
            Evaluation.temperature_rule == evaluation.temperature_rule,
        )
        .order_by(Attack.eps, Evaluation.id)
    )
    own = _list_evaluators(session, evaluation.id)
    return [
        (found, of) for found, of in session.execute(statement) if _list_evaluators(session, found) == own
    ]


def count_successes(session: Session, attack_id: int) -> int:
    """Return the number of an attack's successful samples."""
    statement = select(func.count()).where(Sample.attack_id == attack_id, IS_COUNTED == 1)
    return session.scalars(statement).one()


def _list_evaluators(session: Session, evaluation_id: int) -> list[int]:
    statement = select(EvaluationMember.model_id).where(EvaluationMember.evaluation_id == evaluation_id)
    return sorted(session.scalars(statement))


def read_divergences(
    session: Session, attack: Attack, evaluation: Evaluation
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return each evaluator's divergence ``(n, evaluators)`` and the attacked model's own ``(n,)``.

    Of the successful samples on which the attacked model's outputs moved at all, as they do where its label
    changed.
    """
    statement = (
        select(Score.member_js, Score.js_attacked)
        .join(
            Sample,
            (Sample.sample_index == Score.sample_index) & (Sample.requested_target == Score.requested_target),
        )
        .where(
            Score.evaluation_id == evaluation.id,
            Sample.attack_id == attack.id,
            IS_COUNTED == 1,
            Score.js_attacked > 0,
        )
    )
    rows = session.execute(statement).all()
    member_js = np.array([np.frombuffer(packed, dtype="<f4") for packed, _ in rows], dtype=np.float64)
    return member_js, np.array([value for _, value in rows], dtype=np.float64)
