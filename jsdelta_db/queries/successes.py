"""Successes: the JSΔ of a group's successful attempts, each with the place of its image."""

from collections.abc import Iterator, Sequence
from itertools import product
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from jsdelta_db.queries.columns import read_segments
from jsdelta_db.queries.grouping import LABEL_KEYS, sort_key
from jsdelta_db.queries.selection import ALL_CORRECT, EvaluationInfo, Row
from jsdelta_db.records import FILE_SPLIT
from jsdelta_db.store.reading import Reader
from jsdelta_db.store.segments import Segment

Part = tuple[EvaluationInfo, Sequence[Segment]]


class Successes(NamedTuple):
    """The successful attempts of a group that have a JSΔ, in any order.

    Attributes:
        facts: of the group, by key.
        js_delta: ``(n,)``.
        image: a number from 0 for the image of each, the same wherever it is the same image, ``(n,)``.
        n_images: a number above all of them.
    """

    facts: Row
    js_delta: NDArray[np.float64]
    image: NDArray[np.int32]
    n_images: int


def read_successes(
    reader: Reader, evaluations: Sequence[EvaluationInfo], keys: Sequence[str], population: str
) -> Iterator[Successes]:
    """Yield the groups of evaluations, by label too where a key asks for it, in the order of their facts."""
    label_keys = [key for key in keys if key in LABEL_KEYS]
    run_keys = [key for key in keys if key not in LABEL_KEYS]
    names = ["sample_index", "js_delta"]
    names += ["label_pair"] if label_keys else []
    names += ["n_right"] if population == ALL_CORRECT else []
    grouped: dict[tuple[object, ...], list[Part]] = {}
    for evaluation, segments in read_segments(reader, evaluations, names, successes_only=True):
        values = tuple(evaluation.facts[key] for key in run_keys)
        grouped.setdefault(values, []).append((evaluation, segments))
    found: list[Successes] = []
    for values in list(grouped):
        parts = grouped.pop(values)  # one group's columns at a time beside what was read
        facts = dict(zip(run_keys, values, strict=True))
        found += _divide(_join(parts, facts, population), parts, label_keys, keys, population)
    yield from sorted(found, key=lambda group: [sort_key(value) for value in group.facts.values()])


def _join(parts: Sequence[Part], facts: Row, population: str) -> Successes:
    """Return the successes of some evaluations as columns."""
    places = _place_images(parts)
    js_delta, image = [np.zeros(0)], [np.zeros(0, np.int32)]
    for (evaluation, segments), place in zip(parts, places, strict=True):
        for segment in segments:
            if segment.is_defined:
                rows = _choose(evaluation, segment, population)
                assert segment.js_delta is not None
                assert segment.sample_index is not None
                js_delta.append(segment.js_delta[rows])
                image.append(place[segment.sample_index[rows]])
    n_images = 1 + max((int(place.max(initial=0)) for place in places), default=0)
    return Successes(facts, np.concatenate(js_delta), np.concatenate(image), n_images)


def _choose(evaluation: EvaluationInfo, segment: Segment, population: str) -> "slice | NDArray[np.bool_]":
    """Return which rows of a segment belong to the population."""
    if population != ALL_CORRECT:
        return slice(None)
    assert segment.n_right is not None
    return np.equal(segment.n_right, evaluation.n_evaluators)


def _place_images(parts: Sequence[Part]) -> list[NDArray[np.int32]]:
    """Return the places of each evaluation's images, by ``sample_index``.

    Evaluations on one set of images share them; images that came in files are matched by their keys.
    """
    largest: dict[object, int] = {}
    one_of: dict[object, EvaluationInfo] = {}
    of_part = []
    for evaluation, segments in parts:
        is_file = evaluation.image_set[1] == FILE_SPLIT
        image_set = evaluation.id if is_file else evaluation.image_set
        highest = max((int(s.sample_index.max()) for s in segments if s.sample_index is not None), default=0)
        largest[image_set] = max(highest, largest.get(image_set, 0))
        one_of[image_set] = evaluation
        of_part.append(image_set)
    numbers = [one_of[each].number_images(np.arange(largest[each] + 1)) for each in largest]
    _, place = np.unique(np.concatenate([np.zeros(0, np.int64), *numbers]), return_inverse=True)
    ends = np.cumsum([len(each) for each in numbers])[:-1]
    places = dict(zip(largest, np.split(place.astype(np.int32), ends), strict=True))
    return [places[each] for each in of_part]


def _divide(
    whole: Successes, parts: Sequence[Part], label_keys: Sequence[str], keys: Sequence[str], population: str
) -> Iterator[Successes]:
    """Yield a group's successes, by label where asked."""
    if not label_keys:
        yield whole
        return
    names, code = _read_labels(parts, label_keys, population)
    counts = np.bincount(code, minlength=len(names))
    # One sort for all: of 1,000 classes there may be as many label pairs as attempts.
    pieces = np.split(np.argsort(code, kind="stable"), np.cumsum(counts)[:-1])
    for labels, rows in zip(names, pieces, strict=True):
        if len(rows):
            facts = {**whole.facts, **dict(zip(label_keys, labels, strict=True))}
            ordered = {key: facts[key] for key in keys}
            yield Successes(ordered, whole.js_delta[rows], whole.image[rows], whole.n_images)


def _read_labels(
    parts: Sequence[Part], label_keys: Sequence[str], population: str
) -> tuple[list[tuple[str, ...]], NDArray[np.int32]]:
    """Return names of labels, and which of them each row has, in the order of :func:`_join`."""
    names: dict[tuple[str, ...], int] = {}
    codes: dict[tuple[str, ...], NDArray[np.int32]] = {}  # by the names of the classes: of a label pair
    found = [np.zeros(0, dtype=np.int32)]
    for evaluation, segments in parts:
        classes = evaluation.classes
        if classes not in codes:
            labels = (dict(zip(LABEL_KEYS, pair, strict=True)) for pair in product(classes, classes))
            picked = (tuple(each[key] for key in label_keys) for each in labels)
            codes[classes] = np.array([names.setdefault(each, len(names)) for each in picked], np.int32)
        for segment in segments:
            if segment.is_defined:
                assert segment.label_pair is not None
                found.append(codes[classes][segment.label_pair[_choose(evaluation, segment, population)]])
    return list(names), np.concatenate(found)
