"""Models: the part of an interval that comes from the draw of the models, by leaving each out in turn.

A unit is a model by its weights. It is left out in all its roles at once: its attacks are dropped, and it is
dropped from every set of evaluators. Units of one recipe and role are a stratum, within which they are
draws of one kind.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

FEWEST_MODELS = 3  # of a stratum whose spread is taken
ROUNDING = 1e-9  # a spread that is smaller, relatively, is none
BOTH, ATTACKS, JUDGES = ROLES = ("attacked and judging", "attacked", "judging")
IMAGES, EVALUATORS, MODELS = COVERS = ("images", "images+evaluators", "images+models")


class Unit(NamedTuple):
    """A model in what it does for a number.

    Attributes:
        recipe: what was trained; models of one recipe differ by their seeds.
        role: one of ``ROLES``.
        name: of its kind, for people.
    """

    sha256: str
    recipe: str
    role: str
    name: str


@dataclass(frozen=True, slots=True)
class OfModels:
    """What the draw of the models adds to a variance.

    Attributes:
        n_models: models with a part in the number.
        parts: variance and degrees of freedom of each stratum that is large enough.
        covers: what an interval with these parts covers, one of ``COVERS``.
        warnings: strata that are too small, and what the store lacks.
    """

    n_models: int
    parts: tuple[tuple[float, int], ...] = ()
    covers: str = IMAGES
    warnings: tuple[str, ...] = field(default=())

    @property
    def variance(self) -> float:
        """The variance over the models."""
        return sum(variance for variance, _ in self.parts)


def spread_over_models(units: Sequence[Unit], without: Sequence[float] | NDArray[np.float64]) -> OfModels:
    """Return what the draw of the models adds to the variance of a number.

    Args:
        without: the number without each unit in turn, NaN where nothing remains, ``(units,)``.
    """
    values = np.asarray(without, dtype=np.float64)
    parts, warnings = [], []
    small: set[str] = set()  # roles of strata that are too small
    for (_, role), places in _strata(units).items():
        n = len(places)
        left = values[places]
        if n < FEWEST_MODELS or np.isnan(left).any():
            small.add(role)
            why = (
                f"fewer than {FEWEST_MODELS} models"
                if n < FEWEST_MODELS
                else "nothing left without one model"
            )
            warnings.append(f"{why}: {n} {role} ({units[places[0]].name})")
            continue
        spread = left - left.mean()
        # Numbers that are alike differ by their rounding.
        spread[np.abs(spread) <= ROUNDING * np.abs(left)] = 0.0
        parts.append(((n - 1) / n * float(spread @ spread), n - 1))
    covers = MODELS if not small else EVALUATORS if small == {ATTACKS} else IMAGES
    if not units:
        covers = IMAGES
    return OfModels(
        len({unit.sha256 for unit in units}), tuple(parts), covers, tuple(dict.fromkeys(warnings))
    )


def degrees_of_freedom(parts: Iterable[tuple[float, int]]) -> float:
    """Return the degrees of freedom of a sum of variances, those that are 0 left out.

    Source: Satterthwaite 1946, "An approximate distribution of estimates of variance components".

    Args:
        parts: variance and degrees of freedom of each; one of them above 0.
    """
    used = [(variance, degrees) for variance, degrees in parts if variance > 0]
    largest = max(variance for variance, _ in used)  # squares of small variances would be 0
    total = sum(variance / largest for variance, _ in used)
    return total**2 / sum((variance / largest) ** 2 / degrees for variance, degrees in used)


def _strata(units: Sequence[Unit]) -> Mapping[tuple[str, str], list[int]]:
    """Return the places of the units of each recipe and role."""
    strata: dict[tuple[str, str], list[int]] = {}
    for place, unit in enumerate(units):
        strata.setdefault((unit.recipe, unit.role), []).append(place)
    return strata
