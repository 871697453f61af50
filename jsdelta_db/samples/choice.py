"""Choices of stored samples: one attack, one evaluation of it, and some of its attempts."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import select
from sqlalchemy.orm import Session

from jsdelta_db.config.evaluation import check_beta
from jsdelta_db.config.labels import parse_label
from jsdelta_db.config.locations import Workspace
from jsdelta_db.errors import NothingToDoError, UsageError
from jsdelta_db.samples.chunks import check_stored
from jsdelta_db.samples.stored_attack import StoredAttack, StoredRows
from jsdelta_db.store.naming import ANY_PREFIX, match
from jsdelta_db.store.references import get_attack
from jsdelta_db.store.schema import FINISHED, Attack, Evaluation


@dataclass(frozen=True, slots=True)
class SampleChoice:
    """An attack, an evaluation of it, and the attempts that are wanted; None leaves a fact open.

    Attributes:
        attack: uid prefix; the newest finished attack that stored its samples if None.
        evaluation: uid prefix; the attack's first finished one if None.
        bugs, features: successful ones whose JSΔ is below, or not below, this threshold.
        source, target: labels, by name or number.
        only_successes: leave out attempts that did not reach their target.
    """

    attack: str | None = None
    evaluation: str | None = None
    bugs: float | None = None
    features: float | None = None
    source: str | None = None
    target: str | None = None
    only_successes: bool = True

    def __post_init__(self) -> None:
        if self.bugs is not None and self.features is not None:
            raise UsageError("--bugs and --features exclude each other; give one of them")
        for beta in (self.bugs, self.features):
            if beta is not None:
                check_beta(beta)

    def matches(self, rows: StoredRows, classes: Sequence[str]) -> NDArray[np.bool_]:
        """Return which rows are wanted, ``(n,)``.

        Raises:
            UnknownNameError: no such label.
        """
        wanted = rows.success | (not self.only_successes)
        # A JSΔ that is not defined (NaN) is neither below nor above anything.
        if self.bugs is not None:
            wanted &= rows.success & (rows.js_delta < self.bugs)
        if self.features is not None:
            wanted &= rows.success & (rows.js_delta >= self.features)
        if self.source is not None:
            wanted &= rows.source_label == parse_label("--source", self.source, classes)
        if self.target is not None:
            wanted &= rows.target_label == parse_label("--target", self.target, classes)
        return wanted


def spread(js_delta: NDArray[np.float64], count: int) -> NDArray[np.int64]:
    """Return rows from the lowest JSΔ to the highest, evenly by rank; rows without one are left out."""
    order = np.argsort(js_delta, kind="stable")[: int((~np.isnan(js_delta)).sum())]  # NaN sorts last
    ranks = np.linspace(0, len(order) - 1, min(count, len(order))).round().astype(np.int64)
    return np.asarray(order[ranks])


def find_stored_attack(session: Session, workspace: Workspace, choice: SampleChoice) -> StoredAttack:
    """Return the attack of a choice, whose samples are stored.

    Raises:
        NothingToDoError: no attack is finished.
        UsageError: no such attack or evaluation, one that is not finished, or no samples stored.
    """
    row = _newest(session) if choice.attack is None else get_attack(session, choice.attack)
    if row.finished_at is None:
        raise UsageError(
            f"attack {row.uid} is not finished; go on with the same jsdelta attack as before, "
            "then look at its samples"
        )
    check_stored(row)
    return StoredAttack(session, workspace, row, _find_evaluation(session, row, choice.evaluation))


def _newest(session: Session) -> Attack:
    found = session.scalars(
        select(Attack)
        .where(Attack.finished_at.is_not(None), Attack.keeps_samples)
        .order_by(Attack.finished_at.desc(), Attack.id.desc())
    ).first()
    if found is None:
        raise NothingToDoError("no finished attack stored its samples; make one with jsdelta attack --eps 3")
    return found


def _find_evaluation(session: Session, attack: Attack, reference: str | None) -> Evaluation | None:
    rows = session.scalars(
        select(Evaluation).where(Evaluation.attack_id == attack.id).order_by(Evaluation.id)
    ).all()
    finished = [row for row in rows if row.status == FINISHED]
    if reference is None:
        return finished[0] if finished else None
    found = match(reference, ((None, row.uid, row) for row in rows), shortest=ANY_PREFIX)
    known = ", ".join(row.uid for row in finished) or "none that is finished"
    if len(found) != 1:
        raise UsageError(
            f"--evaluation {reference!r} names {len(found)} evaluations of attack {attack.uid}; "
            f"give one by its uid: {known}"
        )
    if found[0].status != FINISHED:
        raise UsageError(
            f"evaluation {found[0].uid} is not finished; go on with the same command as before, "
            f"or give another: {known}"
        )
    return found[0]
