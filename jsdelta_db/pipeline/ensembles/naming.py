"""Names of ensembles: what one says that was given none, and by whom a name is taken."""

from collections.abc import Sequence
from itertools import count

from sqlalchemy import select
from sqlalchemy.orm import Session

from jsdelta_db.config.hashing import config_hash
from jsdelta_db.config.recipes import Recipe
from jsdelta_db.config.training import TrainConfig
from jsdelta_db.errors import UsageError
from jsdelta_db.store import runs
from jsdelta_db.store.references import list_members
from jsdelta_db.store.schema import FINISHED, Ensemble, Model
from jsdelta_db.store.schema import Dataset as DatasetRow

MOST_DIFFERENCES = 3  # settings named in one message


def member_key(config: TrainConfig, seed: int, dataset: DatasetRow) -> str:
    """Return the hash of a member's configuration, seed and data."""
    return config_hash(config.canonical(seed), [dataset.uid])


def ensemble_key(name: str, members: Sequence[str]) -> str:
    """Return the hash of an ensemble's name and its members' uids."""
    return config_hash({"kind": "ensemble", "name": name}, members)


def choose_name(
    session: Session, recipe: Recipe, seed: int, dataset: DatasetRow, given: str | None
) -> tuple[str, str | None]:
    """Choose an ensemble's name: one that no other finished ensemble and no model has.

    A default name says what differs from the recipe as written; where it is taken, another one is chosen.
    The same command finds its own ensemble again, also under the shorter name that version 0.1 gave.

    Returns:
        The name, and a line for people if the default is taken.

    Raises:
        UsageError: the name that was given is taken.
    """
    wanted = [(recipe.of_member(position), seed + position) for position in range(recipe.members)]
    known = [runs.find_run(session, Model, member_key(config, each, dataset)) for config, each in wanted]
    uids = [row.uid for row in known if row is not None]

    def find_own(name: str) -> Ensemble | None:
        complete = len(uids) == len(wanted)
        return runs.find_run(session, Ensemble, ensemble_key(name, uids)) if complete else None

    def find_holder(name: str) -> Ensemble | Model | None:
        """Return who else has a name; an ensemble that is not finished has no claim to it."""
        own = find_own(name)
        if own is not None and own.status == FINISHED:
            return None
        named = select(Ensemble).where(Ensemble.name == name, Ensemble.status == FINISHED)
        models = select(Model).where(Model.name == name)
        return session.scalars(named).first() or session.scalars(models).first()

    def describe(holder: Ensemble | Model) -> str:
        if isinstance(holder, Model):
            return f"model {holder.uid}"
        return f"ensemble {holder.uid} ({_say_what_differs(list_members(session, holder), wanted)})"

    if given is not None:
        if (holder := find_holder(given)) is not None:
            raise UsageError(f"--name {given!r} is taken by {describe(holder)}; choose another name")
        return given, None
    first = _earlier_name(recipe, seed, dataset)
    if find_own(first) is not None:
        return first, None
    default = recipe.label + (f"-seed{seed}" if seed else "")
    holder = find_holder(default)
    if holder is None:
        return default, None
    name = next(each for each in (f"{default}-{number}" for number in count(2)) if find_holder(each) is None)
    return name, f"the name {default!r} is taken by {describe(holder)}; this ensemble is {name!r}"


def _earlier_name(recipe: Recipe, seed: int, dataset: DatasetRow) -> str:
    """Return the default name of version 0.1: the recipe's, whatever was overridden."""
    mixed = "-mixed" if recipe.is_mixed else ""
    trained_on = f"-on-{dataset.name}" if dataset.parent_id is not None else ""
    return f"{recipe.name}{mixed}{trained_on}{f'-seed{seed}' if seed else ''}"


def _say_what_differs(there: Sequence[Model], here: Sequence[tuple[TrainConfig, int]]) -> str:
    """Return in what a stored ensemble differs from the one that is wanted."""
    if len(there) != len(here):
        return f"members {len(there)}, here {len(here)}"
    if [row.seed for row in there] != [seed for _, seed in here]:
        return f"first seed {there[0].seed}, here {here[0][1]}"
    differences = [
        f"{key} {row.recipe.get(key)}, here {value}"
        for row, (config, seed) in zip(there, here, strict=True)
        for key, value in config.canonical(seed).items()
        if key not in ("kind", "seed") and row.recipe.get(key) != value
    ]
    return "; ".join(list(dict.fromkeys(differences))[:MOST_DIFFERENCES]) or "other data"
