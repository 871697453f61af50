"""Attempts of two sides at the units that both attempted, as bits, with and without some of the judges.

A unit is an image with the label that is aimed at. In one evaluation each unit is attempted once at most.
"""

from collections.abc import Iterable, Mapping, Sequence
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
        bugs: ``(betas, n)``.
        without: the same without some of the judges; absent where that is not known.
        values: the measure of each attempt, ``(n,)``.
    """

    evaluation: EvaluationInfo
    judges: tuple[ModelInfo, ...]
    image: Whole
    target: Whole
    success: Bits
    bugs: Bits
    without: Mapping[Gone, Bits]
    values: Floats


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
    read = [[_read(reader, each, reading) for each in some] for some in (sides.of_a, sides.of_b)]
    both = [*read[0], *read[1]]
    images = np.unique(np.concatenate([each.image for each in both]))
    n_targets = max(len(each.evaluation.classes) for each in both) - UNTARGETED
    keys = [[_number(each.image, each.target, images, n_targets) for each in some] for some in read]
    of_a, of_b = (np.unique(np.concatenate(some)) for some in keys)
    units = np.intersect1d(of_a, of_b, assume_unique=True)
    _, image = np.unique(units // n_targets, return_inverse=True)
    fallen = _Fallen(reader, grid, images, n_targets)
    aligned = [
        [
            _align(each, key, units, fallen.of(each.evaluation))
            for each, key in zip(some, of_side, strict=True)
        ]
        for some, of_side in zip(read, keys, strict=True)
    ]
    return Pairing(image, aligned[0], aligned[1], reading.lacking, is_cut=bool(places))


def _read(reader: Reader, evaluation: EvaluationInfo, reading: _Reading) -> Read:
    """Read one evaluation."""
    measuring, places = reading.request.measuring, reading.places.get(evaluation.id)
    over_models = measuring.interval != OVER_IMAGES
    columns = list_columns(
        reading.selection, replace(measuring, interval=OVER_MODELS if over_models else OVER_IMAGES)
    )
    names = [*columns, "member_js"] if places else columns
    (judged,) = read_judged(reader, [evaluation], names)
    judged, values = measure_selected(judged, reading.selection, measuring.measure)
    counted = ~np.isnan(values)
    judged, values = judged.pick(counted), values[counted]
    if places:
        judged = keep_judges(judged, places, measuring.measure)
        values = measure_values(judged, measuring.measure)
    success = judged.columns["success"]
    bugs = _below(values, success, reading.request.betas)
    without = _leave_out(judged, reading) if over_models else {}
    return Read(
        evaluation, judged.evaluation.evaluators,
        evaluation.number_images(judged.columns["sample_index"]).astype(np.int64),
        judged.columns["requested_target"].astype(np.int64), success, bugs, without, values,
    )  # fmt: skip


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


def _below(values: Floats, success: Bits, betas: Sequence[float]) -> Bits:
    return np.stack([success & (values < beta) for beta in betas])


def _number(image: Whole, target: Whole, images: Whole, n_targets: int) -> Whole:
    """Return the number of each attempt's unit."""
    return np.asarray(np.searchsorted(images, image) * n_targets + target - UNTARGETED, np.int64)


def _align(read: Read, keys: Whole, units: Whole, fallen: Whole) -> Attempts:
    """Return attempts at the units, without those that had succeeded before."""
    counts = np.isin(keys, units) & ~np.isin(keys, fallen)
    place = np.searchsorted(units, keys[counts])

    def spread(bits: Bits) -> Bits:
        found = np.zeros((*bits.shape[:-1], len(units)), bool)
        found[..., place] = bits[..., counts]
        return found

    return Attempts(
        read.evaluation.attacked, read.judges, spread(np.ones_like(read.success)), spread(read.success),
        spread(read.bugs), {gone: spread(bits) for gone, bits in read.without.items()},
        read.values[counts & read.success],
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
            image = evaluation.number_images(judged.columns["sample_index"]).astype(np.int64)
            known = np.isin(image, self._images)
            target = judged.columns["requested_target"].astype(np.int64)
            found = _number(image[known], target[known], self._images, self._n_targets)
            self._read[evaluation.attack_id] = found
        return self._read[evaluation.attack_id]
