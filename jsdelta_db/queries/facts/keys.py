"""Keys of facts: everything recorded that ``--where`` and ``--by`` take, with how its values read."""

from collections.abc import Iterator
from dataclasses import fields
from enum import Enum, auto
from typing import NamedTuple

from jsdelta_db.config.training import TrainConfig
from jsdelta_db.errors import UnknownNameError


class Kind(Enum):
    """How values of a fact are read, compared and shown."""

    TEXT = auto()
    WHOLE = auto()
    NUMBER = auto()
    FLAG = auto()
    SIZE = auto()  # a radius or a step, in the unit of its norm
    LABEL = auto()  # a name, which may be followed by @ and the start of a uid
    JUDGES = auto()  # the labels of several models
    WORDS = auto()  # names in one text
    UID = auto()
    CALL = auto()  # a callable, its arguments and its version


ORDERED = (Kind.WHOLE, Kind.NUMBER, Kind.SIZE)  # those that < and > compare


class Fact(NamedTuple):
    """A fact.

    Attributes:
        about: what it is a fact of.
        beside: the key of a size's norm, of a label's uid, or of a text's version.
    """

    kind: Kind
    about: str
    beside: str = ""


ATTACK, MODEL, JUDGES = "attack", "attacked model", "judges"
RECORDED = {
    "dataset": Fact(Kind.TEXT, ATTACK),
    "attacked_ensemble": Fact(Kind.LABEL, MODEL, "attacked_ensemble_uid"),
    "attacked": Fact(Kind.LABEL, MODEL, "attacked_uid"),
    "judged_by": Fact(Kind.LABEL, JUDGES, "judged_by_uid"),
    "norm": Fact(Kind.TEXT, ATTACK),
    "eps": Fact(Kind.SIZE, ATTACK, "norm"),
    "method": Fact(Kind.TEXT, MODEL),
    "trained_on": Fact(Kind.TEXT, MODEL),
    "arch": Fact(Kind.TEXT, MODEL),
    "recipe": Fact(Kind.TEXT, MODEL),
    "model_seed": Fact(Kind.WHOLE, MODEL),
    "targets": Fact(Kind.TEXT, ATTACK),
    "steps": Fact(Kind.WHOLE, ATTACK),
    "step_size": Fact(Kind.SIZE, ATTACK, "norm"),
    "relative_step_size": Fact(Kind.NUMBER, ATTACK),
    "random_start": Fact(Kind.FLAG, ATTACK),
    "restarts": Fact(Kind.WHOLE, ATTACK),
    "objective": Fact(Kind.TEXT, ATTACK),
    "stop": Fact(Kind.TEXT, ATTACK),
    "attack_seed": Fact(Kind.WHOLE, ATTACK),
    "images": Fact(Kind.WHOLE, ATTACK),
    "split": Fact(Kind.TEXT, ATTACK),
    "device": Fact(Kind.TEXT, ATTACK),
    "dtype": Fact(Kind.TEXT, ATTACK),
    "prepared_as": Fact(Kind.TEXT, ATTACK),
    "library": Fact(Kind.TEXT, ATTACK, "library_version"),
    "library_version": Fact(Kind.TEXT, ATTACK),
    "attack_by": Fact(Kind.CALL, ATTACK),
    "accept_eps": Fact(Kind.TEXT, ATTACK),
    "attack": Fact(Kind.UID, ATTACK),
    "evaluators": Fact(Kind.JUDGES, JUDGES),
    "n_evaluators": Fact(Kind.WHOLE, JUDGES),
    "judged_method": Fact(Kind.TEXT, JUDGES),
    "temperature": Fact(Kind.TEXT, JUDGES),
    "baseline": Fact(Kind.TEXT, JUDGES),
    "evaluation": Fact(Kind.UID, JUDGES),
}
# Recipes have these, too, under names that mean something else of an attack.
RENAMED = {"device": "train_device", "dtype": "train_dtype"}
KNOWN_BY_NAME = ("dataset", "arch", "method")  # trained_on, arch and method, with columns of their own
OF_ELSEWHERE = ("factory", "outputs")  # in the recipe of a network that was trained elsewhere
SIZES = ("train_eps", "train_step_size")
ALIASES = {
    "ensemble": "judged_by",  # until the next release: attacked and judging ensembles were one word
    "architecture": "arch",
    "lr": "learning_rate",
    "seed": "attack_seed",
}


def _list_hyperparameters() -> Iterator[tuple[str, tuple[str, Fact]]]:
    """Yield the key of each setting of a recipe, its name there, and the fact."""
    kinds = {"int": Kind.WHOLE, "float": Kind.NUMBER, "bool": Kind.FLAG, "str": Kind.TEXT}
    for each in fields(TrainConfig):
        if each.name in KNOWN_BY_NAME:
            continue
        name = each.type.__name__ if isinstance(each.type, type) else str(each.type).partition(" ")[0]
        is_size = each.name in SIZES
        fact = Fact(Kind.SIZE, MODEL, "train_norm") if is_size else Fact(kinds[name], MODEL)
        yield RENAMED.get(each.name, each.name), (each.name, fact)
    for name in OF_ELSEWHERE:
        yield name, (name, Fact(Kind.TEXT, MODEL))


HYPERPARAMETERS = dict(_list_hyperparameters())
FACTS = {**RECORDED, **{key: fact for key, (_, fact) in HYPERPARAMETERS.items()}}


def find_key(name: str) -> str | None:
    """Return the key that a name means: spelled with ``-`` or ``_``, or its other name; None for no fact."""
    key = name.strip().replace("-", "_")
    key = ALIASES.get(key, key)
    return key if key in FACTS else None


def get_key(option: str, name: str) -> str:
    """Return the key that a name means.

    Raises:
        UnknownNameError: there is none; the message names the option.
    """
    key = find_key(name)
    if key is None:
        raise UnknownNameError(option, name, FACTS, "jsdelta query keys shows their values")
    return key
