"""References: rows by the name or uid that people type; :mod:`jsdelta_db.store.naming` matches them.

Every function takes a session and never commits. A model or a set of models has one reference: an
ensemble's name or uid (``digits``), some of its members by seed (``digits:1,2``, or just ``1,2`` where the
ensemble is clear), a model's uid, or the name of a model that was added. A uid may be cut to any unique
prefix of four characters or more.
"""

import re
from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from jsdelta_db.errors import NothingToDoError, UnknownNameError, UsageError
from jsdelta_db.store.naming import ambiguous, find_match, get_match, match_ensembles
from jsdelta_db.store.schema import (
    FINISHED,
    Attack,
    Ensemble,
    EnsembleMember,
    Evaluation,
    EvaluationMember,
    Model,
)

SEEDS = re.compile(r"\d{1,18}(,\d{1,18})*")
MOST_LISTED = 8  # uids in one message, the newest


def get_ensemble(session: Session, reference: str | None = None) -> Ensemble:
    """Return a finished ensemble by name or unique uid prefix; the newest if no reference is given.

    Raises:
        NothingToDoError: no ensemble is finished.
        UnknownNameError: no such ensemble.
        UsageError: several of that name (the message lists uids).
    """
    finished = _finished_ensembles(session)
    if not finished:
        raise NothingToDoError("the store has no finished ensemble; train one with jsdelta train --seed 0")
    if reference is None:
        return finished[0]
    found = _find_ensemble(finished, reference)
    if found is None:
        raise UnknownNameError("ensemble", reference, (f"{row.name} ({row.uid[:8]})" for row in finished))
    return found


def list_members(session: Session, ensemble: Ensemble) -> list[Model]:
    """Return an ensemble's models in their order."""
    return list(
        session.scalars(
            select(Model)
            .join(EnsembleMember, EnsembleMember.model_id == Model.id)
            .where(EnsembleMember.ensemble_id == ensemble.id)
            .order_by(EnsembleMember.position)
        )
    )


def list_fellows(session: Session, model: Model) -> list[Model]:
    """Return the finished models that share an ensemble with a model, itself among them."""
    homes = select(EnsembleMember.ensemble_id).where(EnsembleMember.model_id == model.id)
    members = select(EnsembleMember.model_id).where(EnsembleMember.ensemble_id.in_(homes))
    statement = select(Model).where(Model.id.in_(members), Model.status == FINISHED).order_by(Model.id)
    return list(session.scalars(statement))


def list_models(
    session: Session, reference: str, home: Ensemble | None = None
) -> tuple[list[Model], Ensemble | None]:
    """Return the finished models of a reference, and the ensemble that it names.

    Args:
        home: the ensemble that bare seeds belong to.

    Raises:
        UsageError: it names nothing, or several things of one name.
    """
    if home is not None and SEEDS.fullmatch(reference):
        members = list_members(session, home)
        if {int(seed) for seed in reference.split(",")} <= {row.seed for row in members}:
            return _by_seed(home, members, reference), home
    name, colon, seeds = reference.rpartition(":")
    ensemble = _find_ensemble(_finished_ensembles(session), name if colon else reference)
    if ensemble is not None:
        members = list_members(session, ensemble)
        return (_by_seed(ensemble, members, seeds) if colon else members), ensemble
    return [_get_model(session, reference, home)], None


def get_attack(session: Session, reference: str) -> Attack:
    """Return an attack by unique uid prefix.

    Raises:
        UnknownNameError: no such attack.
        UsageError: several.
    """
    rows = session.scalars(select(Attack).order_by(Attack.id)).all()
    named = [(None, row.uid, row) for row in rows]
    known = [row.uid for row in rows[-MOST_LISTED:]]
    hint = "" if rows else "make one with jsdelta attack --eps 3"
    return get_match("attack", reference, named, known, hint=hint)


def list_first_evaluators(session: Session, attack: Attack) -> tuple[list[Model], Ensemble | None]:
    """Return the evaluators of an attack's first evaluation, and the ensemble they belong to.

    Raises:
        NothingToDoError: the attack has no evaluation.
    """
    first = session.scalars(
        select(Evaluation).where(Evaluation.attack_id == attack.id).order_by(Evaluation.id)
    ).first()
    if first is None:
        raise NothingToDoError(f"attack {attack.uid} was never judged; name --evaluators")
    evaluators = session.scalars(
        select(Model)
        .join(EvaluationMember, EvaluationMember.model_id == Model.id)
        .where(EvaluationMember.evaluation_id == first.id)
        .order_by(EvaluationMember.position)
    )
    return list(evaluators), session.get(Ensemble, first.ensemble_id) if first.ensemble_id else None


def _finished_ensembles(session: Session) -> Sequence[Ensemble]:
    """Return the finished ensembles, newest first."""
    return session.scalars(
        select(Ensemble)
        .where(Ensemble.status == FINISHED)
        .order_by(Ensemble.finished_at.desc(), Ensemble.id.desc())
    ).all()


def _find_ensemble(finished: Sequence[Ensemble], reference: str) -> Ensemble | None:
    found = match_ensembles(reference, [(row.name, row.uid, row) for row in finished])
    if len(found) > 1:
        raise ambiguous("ensemble", reference, (row.uid for row in found))
    return found[0] if found else None


def _by_seed(ensemble: Ensemble, members: Sequence[Model], seeds: str) -> list[Model]:
    wanted = [int(seed) for seed in seeds.split(",")] if SEEDS.fullmatch(seeds) else []
    of_seed = {row.seed: row for row in members}
    if not wanted or not set(wanted) <= set(of_seed):
        raise UsageError(
            f"{seeds!r} names no members of {ensemble.name!r}: must be seeds such as "
            f"{ensemble.name}:{','.join(map(str, of_seed))}"
        )
    return [get_by_seed(ensemble, members, seed) for seed in dict.fromkeys(wanted)]


def get_by_seed(ensemble: Ensemble, members: Sequence[Model], seed: int) -> Model:
    """Return the one member of an ensemble that has a seed; of models that were added several may.

    Raises:
        UsageError: none has it, or several have.
    """
    found = [row for row in members if row.seed == seed]
    if not found:
        seeds = ", ".join(map(str, sorted({row.seed for row in members})))
        raise UsageError(f"{seed} is no seed of ensemble {ensemble.name!r}: must be {seeds}")
    if len(found) > 1:
        names = ", ".join(row.name or row.uid for row in found)
        raise UsageError(f"{len(found)} members of {ensemble.name!r} have seed {seed}; name one of {names}")
    return found[0]


def _get_model(session: Session, reference: str, home: Ensemble | None) -> Model:
    finished = session.scalars(select(Model).where(Model.status == FINISHED).order_by(Model.id)).all()
    found = find_match("model", reference, ((row.name, row.uid, row) for row in finished))
    if found is not None:
        return found
    seeds = (
        f"seeds of {home.name!r}: {', '.join(str(row.seed) for row in list_members(session, home))}; "
        if home
        else ""
    )
    ensembles = ", ".join(row.name for row in _finished_ensembles(session)) or "none"
    added = ", ".join(row.name for row in finished if row.name) or "none"
    raise UsageError(
        f"{reference!r} is no model or ensemble: must be {seeds}ensembles: {ensembles}; "
        f"added models: {added}; or a model's uid"
    )
