"""Models: those whose draw a difference depends on, each with what is drawn together with it.

Members of the two sides that share a seed vary together and are taken away together. A model is taken away in
all its roles on both sides at once.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from jsdelta_db.queries.comparison.judges import Pair, pair_members
from jsdelta_db.queries.comparison.sides import Sides
from jsdelta_db.queries.selection import ModelInfo
from jsdelta_db.queries.statistics import Unit
from jsdelta_db.queries.statistics.models import ATTACKS, BOTH, JUDGES

Gone = frozenset[str]  # models by their weights
Models = dict[str, ModelInfo]  # by their weights


class Drawn(NamedTuple):
    """Models that were drawn together, as one unit of chance."""

    unit: Unit
    models: Gone


def find_drawn(
    attacked: Iterable[ModelInfo], judges: Iterable[ModelInfo], pairs: Sequence[Pair] = ()
) -> list[Drawn]:
    """Return the units of chance behind some attacks, which no model is in twice.

    Args:
        pairs: attacked models that were drawn together.
    """
    attacking: Models = {each.sha256: each for each in attacked}
    judging: Models = {each.sha256: each for each in judges}
    models = {**attacking, **judging}
    together: dict[str, Gone] = {sha256: frozenset({sha256}) for sha256 in models}
    for pair in pairs:
        found = frozenset(each.sha256 for each in pair if each.sha256 in models)
        together |= dict.fromkeys(found, found)
    drawn = []
    for gone in dict.fromkeys(together.values()):
        own = [model for sha256, model in models.items() if sha256 in gone]
        role = JUDGES if not gone & attacking.keys() else BOTH if gone & judging.keys() else ATTACKS
        # A pair is one draw of both recipes; models of one recipe and role are draws of one kind.
        recipe, name = (" / ".join(dict.fromkeys(texts)) for texts in (
            sorted(each.recipe for each in own), (each.method for each in own)
        ))  # fmt: skip
        drawn.append(Drawn(Unit(" ".join(sorted(gone)), recipe, role, name), gone))
    return drawn


def list_gone(sides: Sides) -> list[Gone]:
    """Return the models that are taken away together: those drawn together, and every judge alone."""
    judges = [model for each in sides.both for model in each.evaluators]
    attacked = [each.attacked for each in sides.both]
    drawn = find_drawn(attacked, judges, pair_members(sides.of_a, sides.of_b))
    return list(dict.fromkeys((*(each.models for each in drawn), *(frozenset({m.sha256}) for m in judges))))
