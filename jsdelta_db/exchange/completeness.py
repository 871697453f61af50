"""Completeness of a merged run: its rows counted against the plan before it is marked as finished."""

from sqlalchemy import Connection, func, select

from jsdelta_db.errors import StoreError
from jsdelta_db.store.schema import Evaluation, Sample, Score


def check_attack(connection: Connection, uid: str, attack_id: int, planned: int) -> None:
    """Check that an attack has a sample for each planned attempt.

    Raises:
        StoreError: they are not as many as planned.
    """
    count = connection.scalar(select(func.count()).where(Sample.attack_id == attack_id))
    if count != planned:
        raise _incomplete("attack", uid, count, planned)


def check_evaluation(connection: Connection, uid: str, evaluation_id: int, planned: int) -> None:
    """Check that an evaluation has a score for each planned attempt, all of them of its attack's samples.

    Raises:
        StoreError: they are not as many as planned.
    """
    attack_id = connection.scalar(select(Evaluation.attack_id).where(Evaluation.id == evaluation_id))
    of_evaluation = Score.evaluation_id == evaluation_id
    same_attempt = (Sample.sample_index == Score.sample_index) & (
        Sample.requested_target == Score.requested_target
    )
    joined = select(func.count()).select_from(Score).join(Sample, same_attempt)
    counts = [
        connection.scalar(select(func.count()).where(of_evaluation)),
        connection.scalar(joined.where(of_evaluation, Sample.attack_id == attack_id)),
    ]
    if set(counts) != {planned}:
        raise _incomplete("evaluation", uid, counts[-1], planned)


def _incomplete(kind: str, uid: str, count: int | None, planned: int) -> StoreError:
    return StoreError(f"{kind} {uid} has {count} of {planned} rows planned; it stays unfinished here")
