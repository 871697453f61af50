"""Estimates: every quantity of two sides, with what remains of it without each of the models."""

from collections.abc import Callable, Collection, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from jsdelta_db.config.measures import OVER_IMAGES
from jsdelta_db.queries.comparison.attempts import Attempts, Pairing
from jsdelta_db.queries.comparison.difference import Counted, Difference, find_difference
from jsdelta_db.queries.comparison.judges import Pair
from jsdelta_db.queries.comparison.models import Drawn, Gone, find_drawn
from jsdelta_db.queries.comparison.quantities import Sums, rows_of
from jsdelta_db.queries.selection import ModelInfo
from jsdelta_db.queries.statistics import OfModels, spread_over_models

FEWEST_SUCCESSES = 5  # of a member whose sign counts
NOBODY: Gone = frozenset()


class Estimates:
    """What is said of two sides at one β.

    Attributes:
        models: the units of chance behind the difference.
        n_models: models in any role.
    """

    def __init__(self, pairing: Pairing, pairs: Sequence[Pair], beta: int, interval: str | None) -> None:
        """Take the sides' attempts.

        Args:
            pairs: members that are set against each other; empty where the sides have different seeds.
            beta: its place.
            interval: one of ``INTERVALS``.
        """
        self._pairing, self._pairs, self._beta = pairing, pairs, beta
        # Without an attempt here an attack's models have no part in the difference.
        both = [each for each in (*pairing.a, *pairing.b) if each.attempted.any()]
        self.models = find_drawn(*_models(both), pairs)
        self.n_models = len({model.sha256 for some in _models(both) for model in some})
        self._over_models = interval != OVER_IMAGES and not pairing.lacking
        self._kept: dict[tuple[int, Gone], Sums] = {}

    def difference(self, quantity: str) -> Difference:
        """Return the difference of the sides in a quantity."""
        of_models = self._spread(self.models, lambda gone: self._difference_without(quantity, gone))
        sides = self._sums()
        rows = [rows_of(quantity, *some) for some in (sides, sides[::-1])]
        counted = [Counted(*map(self._by_image, some)) for some in rows]
        return find_difference(counted[0], counted[1], of_models, partial(self._spread_of_sides, quantity))

    def of_models(self, quantity: str) -> OfModels:
        """Return what the draw of the models adds to the variance of the difference, with its warnings."""
        return self._spread(self.models, lambda gone: self._difference_without(quantity, gone))

    def values(self, quantity: str) -> tuple[float | None, float | None]:
        """Return a quantity of either side; None without rows."""
        a, b = self._sums()
        found = [rows_of(quantity, *some).value for some in ((a, b), (b, a))]
        return _or_none(found[0]), _or_none(found[1])

    def count_equal(self) -> int:
        """Return at how many units both sides have a success."""
        a, b = self._sums()
        return int(np.count_nonzero((a.success > 0) & (b.success > 0)))

    def list_signs(self, quantity: str) -> list[float]:
        """Return the difference in each attacked member with enough successes; without pairs against B."""
        pairs = [(frozenset({one.sha256}), frozenset({other.sha256})) for one, other in self._pairs]
        if not pairs:
            everyone = frozenset(each.attacked.sha256 for each in self._pairing.b)
            pairs = [(frozenset({sha256}), everyone) for sha256 in _attacked(self._pairing.a)]
        found = []
        for of_a, of_b in pairs:
            a, b = (
                self._add_up([each for each in side if each.attacked.sha256 in some], NOBODY)
                for side, some in ((self._pairing.a, of_a), (self._pairing.b, of_b))
            )
            if min(a.success.sum(), b.success.sum()) >= FEWEST_SUCCESSES:
                found.append(rows_of(quantity, a, b).value - rows_of(quantity, b, a).value)
        return [each for each in found if not np.isnan(each)]

    def _difference_without(self, quantity: str, gone: Gone) -> float:
        a, b = self._sums(gone, gone)
        return rows_of(quantity, a, b).value - rows_of(quantity, b, a).value

    def _spread_of_sides(self, quantity: str) -> tuple[OfModels, OfModels]:
        """Return what the draw of the models adds to the variance of each side's own fraction."""

        def of_a(gone: Gone) -> float:
            return rows_of(quantity, *self._sums(gone, NOBODY)).value

        def of_b(gone: Gone) -> float:
            return rows_of(quantity, *self._sums(NOBODY, gone)[::-1]).value

        drawn = [find_drawn(*_models(side)) for side in (self._pairing.a, self._pairing.b)]
        return self._spread(drawn[0], of_a), self._spread(drawn[1], of_b)

    def _spread(self, drawn: Sequence[Drawn], value_without: Callable[[Gone], float]) -> OfModels:
        if not self._over_models:
            lacking = self._pairing.lacking
            why = f"over images alone: the store lacks {lacking}; jsdelta doctor --repair adds it"
            return OfModels(len(drawn), warnings=(why,) if lacking else ())
        return spread_over_models(
            [each.unit for each in drawn], [value_without(each.models) for each in drawn]
        )

    def _sums(self, gone_a: Gone = NOBODY, gone_b: Gone = NOBODY) -> tuple[Sums, Sums]:
        """Return both sides' sums without some models."""
        for side, (attempts, gone) in enumerate(((self._pairing.a, gone_a), (self._pairing.b, gone_b))):
            if (side, gone) not in self._kept:
                self._kept[side, gone] = self._add_up(attempts, gone)
        return self._kept[0, gone_a], self._kept[1, gone_b]

    def _add_up(self, attempts: Sequence[Attempts], gone: Gone) -> Sums:
        sums = Sums(*(np.zeros(self._pairing.n_units) for _ in Sums._fields))
        for each in attempts:
            if each.attacked.sha256 in gone:
                continue
            removed = gone & {model.sha256 for model in each.judges}
            bugs = each.without.get(removed) if removed else each.bugs
            for total, bits in ((sums.attempted, each.attempted), (sums.success, each.success)):
                total += bits
            if bugs is not None:
                sums.bugs[:] += bugs[self._beta]
            elif each.success.any():
                sums.bugs[:] = np.nan
        return sums

    def _by_image(self, of_units: NDArray[np.float64]) -> NDArray[np.float64]:
        image = self._pairing.image
        return np.asarray(np.bincount(image, of_units, int(image.max(initial=-1)) + 1), np.float64)


def _models(attempts: Sequence[Attempts]) -> tuple[list[ModelInfo], list[ModelInfo]]:
    return [each.attacked for each in attempts], [model for each in attempts for model in each.judges]


def _attacked(attempts: Sequence[Attempts]) -> Collection[str]:
    return dict.fromkeys(each.attacked.sha256 for each in attempts)


def _or_none(value: float) -> float | None:
    return None if np.isnan(value) else value
