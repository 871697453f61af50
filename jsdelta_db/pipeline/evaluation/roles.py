"""Who plays which part: the attacked model, its evaluators, and the surrogates held back from judging."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy.orm import Session

from jsdelta_db.config.attack import SURROGATE_OBJECTIVES
from jsdelta_db.errors import NothingToDoError, UsageError
from jsdelta_db.store.references import get_ensemble, list_first_evaluators, list_members, list_models
from jsdelta_db.store.schema import Attack, AttackSurrogate, Ensemble, Model

FEWEST_NAMED = 2  # evaluators, where they are named: one opinion is no ensemble's


@dataclass(frozen=True, slots=True)
class Cast:
    """The parts of one attack and one evaluation of it.

    Attributes:
        ensemble: whose members judge; None for a set put together from several.
    """

    attacked: Model
    evaluators: Sequence[Model]
    surrogates: Sequence[Model]
    ensemble: Ensemble | None


def cast_attacks(
    session: Session,
    *,
    ensemble: str | None,
    attacked: str,
    objective: str = "target",
    evaluators: Sequence[str] = (),
    surrogates: Sequence[str] = (),
) -> list[Cast]:
    """Give out the parts of attacks, one per attacked model.

    Args:
        ensemble: name or uid; the newest finished one if None.
        attacked: ``first``, ``all``, or a reference to models (see :mod:`jsdelta_db.store.references`).
        evaluators: references; the ensemble's other members if empty.
        surrogates: references; for objectives that need them and none given, the later half of the
            ensemble's members that would judge.

    Raises:
        UsageError: a name that does not exist, too few members, or a model in two parts.
        NothingToDoError: no ensemble, or nobody is left to judge.
    """
    home = get_ensemble(session, ensemble)
    members = list_members(session, home)
    if len(members) < 2 and not evaluators:
        raise UsageError(
            f"ensemble {home.name!r} has {len(members)} member; one is attacked and the others judge, "
            "so train at least two: jsdelta train --members 5"
        )
    if surrogates and objective not in SURROGATE_OBJECTIVES:
        raise UsageError(
            f"--surrogates go with --objective {' or '.join(SURROGATE_OBJECTIVES)}; "
            f"{objective!r} looks at none"
        )
    named, of = _named(session, evaluators, home)
    held = _named(session, surrogates, home)[0]
    casts = []
    for model in _attacked(session, home, members, attacked):
        others = _without(members, [model])
        if not others and not named:
            raise NothingToDoError(
                f"every member of {home.name!r} has the same weights, so none can judge another"
            )
        back = held or (_hold_back(home, others, named) if objective in SURROGATE_OBJECTIVES else [])
        judges = named or _without(others, back)
        _check_parts(model, judges, back, named=bool(named))
        casts.append(Cast(model, judges, back, of if named else home))
    return casts


def cast_judges(session: Session, attack: Attack, evaluators: Sequence[str]) -> Cast:
    """Give out the parts for samples that are there already.

    Args:
        evaluators: references; those of the attack's first evaluation if empty.

    Raises:
        UsageError: a name that does not exist, too few models, the attacked model or a surrogate among them.
    """
    named, of = _named(session, evaluators, None) if evaluators else list_first_evaluators(session, attack)
    attacked = session.get_one(Model, attack.attacked_model_id)
    rows = session.query(AttackSurrogate).filter_by(attack_id=attack.id).order_by(AttackSurrogate.position)
    surrogates = [session.get_one(Model, row.model_id) for row in rows]
    _check_parts(attacked, named, surrogates, named=bool(evaluators))
    return Cast(attacked, named, surrogates, of)


def _attacked(session: Session, home: Ensemble, members: Sequence[Model], attacked: str) -> Sequence[Model]:
    if attacked == "all":
        return members
    if attacked == "first":
        return members[:1]
    try:
        return list_models(session, attacked, home)[0]
    except UsageError as error:
        raise UsageError(f"--attacked {error}; or first, or all") from error


def _named(
    session: Session, references: Iterable[str], home: Ensemble | None
) -> tuple[list[Model], Ensemble | None]:
    """Return the models of several references, each once, and the ensemble if it is the only one named."""
    found: dict[str, Model] = {}
    ensembles = []
    for reference in references:
        models, ensemble = list_models(session, reference, home)
        ensembles.append(ensemble)
        found.update({_weights(model): model for model in models if _weights(model) not in found})
    same = len({None if each is None else each.id for each in ensembles}) == 1
    return list(found.values()), ensembles[0] if same else None


def _hold_back(home: Ensemble, others: Sequence[Model], named: Sequence[Model]) -> list[Model]:
    candidates = _without(others, named)
    kept_judges = 0 if named else 1
    if len(candidates) <= kept_judges:
        raise UsageError(
            f"ensemble {home.name!r} has too few members to hold a surrogate back and still judge; "
            "name others by --surrogates, or train more: jsdelta train --members 5"
        )
    return candidates[-max(1, len(candidates) // 2) :]


def _check_parts(
    attacked: Model, judges: Sequence[Model], surrogates: Sequence[Model], *, named: bool
) -> None:
    if _shared(judges, [attacked]):
        raise UsageError(
            f"the attacked model ({describe(attacked)}) is among the evaluators; a fooled model must not "
            "judge itself: name the others, such as --evaluators NAME:1,2"
        )
    twice = _shared(judges, surrogates)
    if twice:
        raise UsageError(
            f"{', '.join(map(describe, twice))} would judge and be a surrogate; a model that the attack "
            "looked at must not judge: name others by --evaluators or --surrogates"
        )
    if _shared(surrogates, [attacked]):
        raise UsageError(
            f"the attacked model ({describe(attacked)}) is among the surrogates; name others by --surrogates"
        )
    if not judges:
        raise NothingToDoError("nobody is left to judge; hold fewer surrogates back, or name --evaluators")
    if named and len(judges) < FEWEST_NAMED:
        raise UsageError(
            f"--evaluators names {len(judges)} model: must be {FEWEST_NAMED} or more with different weights"
        )


def describe(model: Model) -> str:
    """Name a model for people."""
    return model.name or f"seed {model.seed}, {model.uid[:8]}"


def _weights(model: Model) -> str:
    return model.checkpoint_sha256 or model.uid


def _without(models: Sequence[Model], out: Sequence[Model]) -> list[Model]:
    gone = {_weights(model) for model in out}
    return [model for model in models if _weights(model) not in gone]


def _shared(some: Sequence[Model], others: Sequence[Model]) -> list[Model]:
    weights = {_weights(model) for model in others}
    return [model for model in some if _weights(model) in weights]


def set_name(cast: Cast) -> str:
    """Name what takes part for people."""
    return cast.ensemble.name if cast.ensemble else cast.attacked.name or f"seed {cast.attacked.seed}"
