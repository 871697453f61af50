"""Attempts of two sides at the units that both attempted, as bits, with and without some of the judges.

A unit is an image with the label that is aimed at. In one evaluation each unit is attempted once at most.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from operator import itemgetter
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from jsdelta_db.config.measures import JS_OF_MEAN, OVER_IMAGES, OVER_MODELS
from jsdelta_db.queries.comparison.judges import choose_judges, keep_judges
from jsdelta_db.queries.comparison.models import Gone, list_gone
from jsdelta_db.queries.comparison.request import Request
from jsdelta_db.queries.comparison.sides import Sides
from jsdelta_db.queries.facts.values import is_equal
from jsdelta_db.queries.judged import Judged, read_judged
from jsdelta_db.queries.measured import list_columns, measure_selected
from jsdelta_db.queries.measures import find_lacking, measure_values, values_without
from jsdelta_db.queries.pooling import OF_ATTEMPTS
from jsdelta_db.queries.selection import EvaluationInfo, ModelInfo, Selection
from jsdelta_db.records import UNTARGETED
from jsdelta_db.store.reading import Reader

# What attacks share that differ in ε alone.
OF_SERIES = itemgetter(
    *(key for key in OF_ATTEMPTS if key not in ("eps", "step_size", "used_device", "dtype")),
    "relative_step_size",
)

Whole = NDArray[np.int64]
Bits = NDArray[np.bool_]
Floats = NDArray[np.float64]


class Read(NamedTuple):
    """Attempts of one evaluation that have the measure, row i of all columns one of them.

    Attributes:
        judges: those who judge, which may be some of the evaluation's evaluators.
        units: where the attempts were made.
        bugs: ``(betas, n)``.
        without: the same without some of the judges; absent where that is not known.
        values: the measure of each success, ``(successes,)``.
    """

    evaluation: EvaluationInfo
    judges: tuple[ModelInfo, ...]
    units: "Places"
    success: Bits
    bugs: Bits
    without: Mapping[Gone, Bits]
    values: Floats


class Places(NamedTuple):
    """Images and labels aimed at, row i of both of one attempt.

    Attributes:
        images: the number of each image of the evaluation.
        image, target: the place among these, and the label; narrow, since all attempts of both sides are held
            at once.
    """

    images: Whole
    image: NDArray[np.integer]
    target: NDArray[np.integer]

    def number(self, images: Whole, n_targets: int) -> Whole:
        """Return the number of each attempt's unit, -1 of an image that is none of some, which are sorted."""
        place = np.minimum(np.searchsorted(images, self.images), len(images) - 1)
        first = np.where(images[place] == self.images, place * n_targets - UNTARGETED, -(1 << 40))
        numbers: Whole = first[self.image] + self.target
        return np.maximum(numbers, -1)


class Attempts(NamedTuple):
    """Attempts of one evaluation, unit by unit.

    Attributes:
        attempted, success: ``(units,)``.
        bugs: ``(betas, units)``.
        without: the same without some of the judges; absent where that is not known.
        values: the measure of each success, in no particular order.
    """

    attacked: ModelInfo
    judges: tuple[ModelInfo, ...]
    attempted: Bits
    success: Bits
    bugs: Bits
    without: Mapping[Gone, Bits]
    values: Floats


@dataclass(frozen=True, slots=True)
class Pairing:
    """The attempts of two sides at the units that both attempted.

    Attributes:
        image: the place of each unit's image, ``(units,)``.
        lacking: what the store lacks to leave judges out; None if it has all.
    """

    image: Whole
    a: Sequence[Attempts]
    b: Sequence[Attempts]
    lacking: str | None = None
    is_cut: bool = False

    @property
    def n_units(self) -> int:
        """The number of units."""
        return len(self.image)


@dataclass(slots=True)
class _Reading:
    """How attempts are read.

    Attributes:
        gone: models that are taken away together.
        places: of the evaluators that judge, by evaluation.
    """

    request: Request
    selection: Selection
    gone: Iterable[Gone]
    places: Mapping[int, tuple[int, ...]]
    lacking: str | None = field(default=None)


def read_pairing(
    reader: Reader,
    sides: Sides,
    request: Request,
    selection: Selection,
    grid: Sequence[EvaluationInfo] = (),
) -> Pairing:
    """Read the attempts of both sides.

    Args:
        grid: the evaluations among which an attempt may have succeeded at a smaller ε.
    """
    places = choose_judges(sides)
    reading = _Reading(request, selection, list_gone(sides), places)
    read = list(_read(reader, sides, reading))
    images = np.unique(np.concatenate([each.units.images for each in read]))
    n_targets = max(len(each.evaluation.classes) for each in read) - UNTARGETED
    place, image = _intersect(read[: len(sides.of_a)], read[len(sides.of_a) :], images, n_targets)
    fallen = _Fallen(reader, grid, images, n_targets)
    aligned = [
        _align(
            each, place[each.units.number(images, n_targets)], len(image), place[fallen.of(each.evaluation)]
        )
        for each in read
    ]
    of_a, of_b = aligned[: len(sides.of_a)], aligned[len(sides.of_a) :]
    return Pairing(image, of_a, of_b, reading.lacking, is_cut=bool(places))


def _read(reader: Reader, sides: Sides, reading: _Reading) -> Iterator[Read]:
    """Read the evaluations of both sides."""
    measuring = reading.request.measuring
    over_models = measuring.interval != OVER_IMAGES
    columns = list_columns(
        reading.selection, replace(measuring, interval=OVER_MODELS if over_models else OVER_IMAGES)
    )
    names = [*columns, "member_js"] if reading.places else columns
    for judged in read_judged(reader, sides.both, names):
        evaluation, measure = judged.evaluation, measuring.measure
        selected, values = measure_selected(judged, reading.selection, measure)
        counted = ~np.isnan(values)
        selected, values = selected.pick(counted), values[counted]
        if evaluation.id in reading.places:
            selected = keep_judges(selected, reading.places[evaluation.id], measure)
            values = measure_values(selected, measure)
        success = selected.columns["success"]
        without = _leave_out(selected, reading) if over_models else {}
        yield Read(
            evaluation, selected.evaluation.evaluators, _find_places(selected), success,
            np.stack([success & (values < beta) for beta in reading.request.betas]), without, values[success],
        )  # fmt: skip


def _find_places(judged: Judged) -> Places:
    index, target = judged.columns["sample_index"], judged.columns["requested_target"]
    every = np.arange(int(index.max(initial=-1)) + 1)
    return Places(
        judged.evaluation.number_images(every).astype(np.int64),
        index.astype(np.min_scalar_type(len(every))),
        target.astype(np.int16 if len(judged.evaluation.classes) < np.iinfo(np.int16).max else np.int32),
    )


def _intersect(
    of_a: Sequence[Read], of_b: Sequence[Read], images: Whole, n_targets: int
) -> tuple[Whole, Whole]:
    """Return each unit's place among those that both sides attempted, -1 of others, and that of its image."""
    present = []
    for side in (of_a, of_b):
        units = np.zeros(len(images) * n_targets, bool)
        for each in side:
            units[each.units.number(images, n_targets)] = True
        present.append(units)
    units = np.flatnonzero(present[0] & present[1])
    of_image = units // n_targets  # ascending
    image = np.cumsum(np.diff(of_image, prepend=of_image[:1]) > 0, dtype=np.int64)
    place = np.full(len(present[0]) + 1, -1)  # the last one is that of no unit
    place[units] = np.arange(len(units))
    return place, image


def _leave_out(judged: Judged, reading: _Reading) -> dict[Gone, Bits]:
    """Return the bugs without those judges that are taken away together."""
    measure, betas = reading.request.measuring.measure, reading.request.betas
    lacking = find_lacking(judged, measure)
    if lacking:
        reading.lacking = lacking
        return {}
    success = judged.columns["success"]
    successes = judged.pick(success)
    evaluators = judged.evaluation.evaluators
    found: dict[Gone, Bits] = {}
    for gone in reading.gone:
        left = [k for k, model in enumerate(evaluators) if model.sha256 not in gone]
        removed = gone & {model.sha256 for model in evaluators}
        if not removed or not left or removed in found:
            continue
        if len(removed) == 1:
            (k,) = set(range(len(evaluators))) - set(left)
            values = values_without(successes, measure, k)
        elif measure != JS_OF_MEAN:
            values = measure_values(keep_judges(successes, left, measure), measure)
        else:
            continue
        bugs = np.zeros((len(betas), judged.n), bool)
        bugs[:, success] = [values < beta for beta in betas]
        found[removed] = bugs
    return found


def _align(read: Read, at: Whole, n_units: int, fallen: Whole) -> Attempts:
    """Return attempts at the units, without those that had succeeded before.

    Args:
        at: the place of each attempt's unit, -1 of none; ``fallen`` alike.
    """
    counts = at >= 0
    if len(fallen):
        counts &= ~np.isin(at, fallen)
    place = at[counts]

    def spread(bits: Bits) -> Bits:
        found = np.zeros((*bits.shape[:-1], n_units), bool)
        found[..., place] = bits[..., counts]
        return found

    return Attempts(
        read.evaluation.attacked, read.judges, spread(np.ones_like(read.success)), spread(read.success),
        spread(read.bugs), {gone: spread(bits) for gone, bits in read.without.items()},
        read.values[counts[read.success]],
    )  # fmt: skip


class _Fallen:
    """Units at which an attacked model had been fooled with a smaller ε of a grid."""

    def __init__(self, reader: Reader, grid: Sequence[EvaluationInfo], images: Whole, n_targets: int) -> None:
        self._reader, self._images, self._n_targets = reader, images, n_targets
        self._grid: dict[object, dict[int, EvaluationInfo]] = {}
        for each in grid:
            self._grid.setdefault(OF_SERIES(each.facts), {}).setdefault(each.attack_id, each)
        self._read: dict[int, Whole] = {}

    def of(self, evaluation: EvaluationInfo) -> Whole:
        """Return those of the attacked model of an evaluation."""
        eps = evaluation.facts["eps"]
        smaller = [
            each
            for each in self._grid.get(OF_SERIES(evaluation.facts), {}).values()
            if each.facts["eps"] < eps and not is_equal(each.facts["eps"], eps)
        ]
        return np.concatenate([np.zeros(0, np.int64), *map(self._successes, smaller)])

    def _successes(self, evaluation: EvaluationInfo) -> Whole:
        if evaluation.attack_id not in self._read:
            (judged,) = read_judged(self._reader, [evaluation], successes_only=True)
            found = _find_places(judged).number(self._images, self._n_targets)
            self._read[evaluation.attack_id] = found[found >= 0]
        return self._read[evaluation.attack_id]
