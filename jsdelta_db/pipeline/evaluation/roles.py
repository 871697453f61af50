"""Roles: the attacked model, its evaluators, and the surrogates that only the attack may use.

A user's references become rows, one set per attacked model; ``open_roles.py`` opens them.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from numbers import Integral

from sqlalchemy.orm import Session

from jsdelta_db.config.attack import SURROGATE_OBJECTIVES
from jsdelta_db.errors import NothingToDoError, UsageError, one_of
from jsdelta_db.store.references import get_ensemble, list_first_evaluators, list_members, list_models
from jsdelta_db.store.schema import Attack, AttackSurrogate, Ensemble, Model
from jsdelta_db.store.schema import Dataset as DatasetRow
from jsdelta_db.workbench.datasets import root_of

FEWEST_NAMED = 2  # evaluators, where they are named: one opinion is no ensemble's


@dataclass(frozen=True, slots=True)
class RoleRequest:
    """References to the models that take part, as a user gives them.

    Attributes:
        ensemble: name or uid prefix; the newest finished one if None.
        attacked: ``first``, ``all``, or a reference to models (see :mod:`jsdelta_db.store.references`).
        evaluators: references; the ensemble's other members if empty.
        surrogates: references; for objectives that need them and none given, the later half of the
            members that would judge.
    """

    ensemble: str | None = None
    attacked: str = "first"
    evaluators: Sequence[str] = ()
    surrogates: Sequence[str] = ()

    @classmethod
    def from_caller(
        cls, ensemble: object, attacked: object, evaluators: object, surrogates: object = ()
    ) -> "RoleRequest":
        """Return the request of a caller in Python, whose types nothing has checked.

        Raises:
            UsageError: a name or a reference is none.
        """
        if ensemble is not None and not isinstance(ensemble, str):
            raise UsageError(f"ensemble {ensemble!r} is not valid: must be a name or a uid")
        if not isinstance(attacked, str | Integral):
            raise UsageError(f"attacked {attacked!r} is not valid: must be first, all, a seed or a model")
        named = (as_references("evaluators", evaluators), as_references("surrogates", surrogates))
        return cls(ensemble, str(attacked), *named)


def as_references(name: str, given: object) -> list[str]:
    """Return references as a caller gives them: a single text is one reference, a whole number a seed.

    Raises:
        UsageError: neither.
    """
    is_list = isinstance(given, Iterable) and not isinstance(given, str | bytes)
    listed = list(given) if is_list else [given]  # type: ignore[call-overload] # checked
    if not (is_list or isinstance(given, str)) or not all(
        isinstance(each, str | Integral) for each in listed
    ):
        raise UsageError(
            f"{name} {given!r} is not valid: must be a list of references, such as ['digits:1,2']"
        )
    return [str(each) for each in listed]


@dataclass(frozen=True, slots=True)
class Roles:
    """Rows of the models of one attack and one evaluation of it.

    Attributes:
        ensemble: whose members are the evaluators; None for a set put together from several.
    """

    attacked: Model
    evaluators: Sequence[Model]
    surrogates: Sequence[Model]
    ensemble: Ensemble | None

    @property
    def models(self) -> tuple[Model, ...]:
        """All of them, the attacked one first."""
        return (self.attacked, *self.evaluators, *self.surrogates)

    @property
    def title(self) -> str:
        """Name of the set for people."""
        return self.ensemble.name if self.ensemble else self.attacked.title


def find_roles(session: Session, request: RoleRequest, objective: str = "target") -> list[Roles]:
    """Assign the roles of attacks, one set per attacked model.

    Raises:
        UsageError: a name that does not exist, too few members, or a model in two roles.
        NothingToDoError: no ensemble, or no evaluator is left.
    """
    home = get_ensemble(session, request.ensemble)
    members = list_members(session, home)
    if len(members) < 2 and not request.evaluators:
        raise UsageError(
            f"ensemble {home.name!r} has {len(members)} member; one is attacked and the others judge, "
            "so train at least two: jsdelta train --members 5"
        )
    needs_surrogates = objective in SURROGATE_OBJECTIVES
    if request.surrogates and not needs_surrogates:
        raise UsageError(
            f"--surrogates go with --objective {one_of(SURROGATE_OBJECTIVES)}; {objective!r} uses none"
        )
    named, ensemble = _list_named(session, request.evaluators, home)
    surrogates, _ = _list_named(session, request.surrogates, home)
    found = []
    for attacked in _list_attacked(session, home, members, request.attacked):
        others = _without(members, [attacked])
        if not others and not named:
            raise NothingToDoError(
                f"every member of {home.name!r} has the same weights, so none can judge another"
            )
        held = surrogates or (_hold_back(home, others, named) if needs_surrogates else [])
        roles = Roles(attacked, named or _without(others, held), held, ensemble if named else home)
        _check_roles(roles, are_named=bool(named))
        found.append(roles)
    return found


def find_evaluators(session: Session, attack: Attack, references: Sequence[str]) -> Roles:
    """Assign the roles for samples that are stored already.

    Args:
        references: to the evaluators; those of the attack's first evaluation if empty.

    Raises:
        UsageError: a name that does not exist, too few models, the attacked model or a surrogate among them.
    """
    if references:
        evaluators, ensemble = _list_named(session, references, None)
    else:
        evaluators, ensemble = list_first_evaluators(session, attack)
    attacked = session.get_one(Model, attack.attacked_model_id)
    rows = session.query(AttackSurrogate).filter_by(attack_id=attack.id).order_by(AttackSurrogate.position)
    surrogates = [session.get_one(Model, row.model_id) for row in rows]
    roles = Roles(attacked, evaluators, surrogates, ensemble)
    _check_roles(roles, are_named=bool(references))
    return roles


def common_dataset(session: Session, found: Iterable[Roles]) -> DatasetRow:
    """Return the data set, nobody's child, that all models of some roles are for.

    A model that was trained on a constructed set is asked about the held-out images of its root, as a
    model trained on the root is: attacks, baselines and logits belong to the root's row.

    Raises:
        UsageError: they are for several.
    """
    trained_on = {model.dataset_id for roles in found for model in roles.models}
    rows = [root_of(session, session.get_one(DatasetRow, dataset_id)) for dataset_id in trained_on]
    roots = {root.id: root for root in sorted(rows, key=lambda root: root.id)}
    if len(roots) > 1:
        names = ", ".join(row.name for row in roots.values())
        raise UsageError(f"these models are for different data sets ({names}); name models for one of them")
    return next(iter(roots.values()))


def _list_attacked(
    session: Session, home: Ensemble, members: Sequence[Model], reference: str
) -> Sequence[Model]:
    if reference == "all":
        return members
    if reference == "first":
        return members[:1]
    try:
        return list_models(session, reference, home)[0]
    except UsageError as error:
        raise UsageError(f"--attacked {error}; or first, or all") from error


def _list_named(
    session: Session, references: Iterable[str], home: Ensemble | None
) -> tuple[list[Model], Ensemble | None]:
    """Return the models of several references, each once, and the ensemble if it is the only one named."""
    found: dict[str, Model] = {}
    ensembles = []
    for reference in references:
        models, ensemble = list_models(session, reference, home)
        ensembles.append(ensemble)
        for model in models:
            found.setdefault(_weights(model), model)
    is_one = len({None if each is None else each.id for each in ensembles}) == 1
    return list(found.values()), ensembles[0] if is_one else None


def _hold_back(home: Ensemble, others: Sequence[Model], named: Sequence[Model]) -> list[Model]:
    """Return the later half of the members that would judge, at least one."""
    candidates = _without(others, named)
    needed_evaluators = 0 if named else 1
    if len(candidates) <= needed_evaluators:
        raise UsageError(
            f"ensemble {home.name!r} has too few members to hold a surrogate back and still judge; "
            "name others by --surrogates, or train more: jsdelta train --members 5"
        )
    return candidates[-max(1, len(candidates) // 2) :]


def _check_roles(roles: Roles, *, are_named: bool) -> None:
    """Refuse a model in two roles; weights decide, not rows."""
    if _shared(roles.evaluators, [roles.attacked]):
        raise UsageError(
            f"the attacked model ({describe(roles.attacked)}) is among the evaluators; a fooled model must "
            "not judge itself: name the others, such as --evaluators NAME:1,2"
        )
    twice = _shared(roles.evaluators, roles.surrogates)
    if twice:
        raise UsageError(
            f"{', '.join(map(describe, twice))} would judge and be a surrogate; a model that the attack "
            "looked at must not judge: name others by --evaluators or --surrogates"
        )
    if _shared(roles.surrogates, [roles.attacked]):
        raise UsageError(
            f"the attacked model ({describe(roles.attacked)}) is among the surrogates; "
            "name others by --surrogates"
        )
    if not roles.evaluators:
        raise NothingToDoError("no evaluator is left; hold fewer surrogates back, or name --evaluators")
    if are_named and len(roles.evaluators) < FEWEST_NAMED:
        raise UsageError(
            f"--evaluators names {len(roles.evaluators)} model: must be {FEWEST_NAMED} or more with "
            "different weights"
        )


def describe(model: Model) -> str:
    """Name a model for people, with the start of its uid."""
    return model.name or f"seed {model.seed}, {model.uid[:8]}"


def _weights(model: Model) -> str:
    return model.checkpoint_sha256 or model.uid


def _without(models: Sequence[Model], out: Sequence[Model]) -> list[Model]:
    gone = {_weights(model) for model in out}
    return [model for model in models if _weights(model) not in gone]


def _shared(some: Sequence[Model], others: Sequence[Model]) -> list[Model]:
    weights = {_weights(model) for model in others}
    return [model for model in some if _weights(model) in weights]
