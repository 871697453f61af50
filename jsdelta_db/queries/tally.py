"""Tallies: attempts counted by image, and by label where asked, for bug fractions and their intervals."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from numpy.typing import NDArray

from jsdelta_db.queries.columns import Counted
from jsdelta_db.queries.deletions import Deletions
from jsdelta_db.queries.grouping import LABEL_KEYS
from jsdelta_db.queries.selection import ALL_CORRECT, EvaluationInfo
from jsdelta_db.records import FILE_SPLIT
from jsdelta_db.store.image_counts import sum_counts
from jsdelta_db.store.segments import Segment, Whole

# Rows of counts; from BUGS on one for each β.
SUCCESS, FAILURE, UNDEFINED, NO_RELATIVE, BUGS = range(5)
OUTCOMES = ("success", "failure")
MOST_CELLS = 1 << 23  # counted in one array (64 MB); more are sorted instead

Counts = NDArray[np.float64]
Piece = tuple[Whole, Whole]  # image numbers and label pairs
Part = tuple[EvaluationInfo, list[list[Piece]]]  # the pieces of each row of the counts
# An evaluation of the set, ``sample_index`` of its images, and their counts ``(rows, images)``.
CountsOfImages = tuple[EvaluationInfo, NDArray[np.int64], Counts]


@dataclass(frozen=True, slots=True)
class Tally:
    """Attempts of a group, counted by image.

    Attributes:
        success, failure: attempts that have a JSΔ, ``(images,)``.
        bugs: the successes below each β, ``(betas, images)``.
        n_undefined: attempts without a JSΔ.
        n_no_relative: attempts on which the attacked model changed too little to divide by.
        deletions: counts without each model in turn; None where intervals are over images alone.
    """

    success: Counts
    failure: Counts
    bugs: Counts
    n_undefined: int
    n_no_relative: int = 0
    deletions: Deletions | None = field(default=None, compare=False)

    @property
    def attempted(self) -> Counts:
        """Attempts that have a JSΔ, by image."""
        return np.asarray(self.success + self.failure)


def tally_images(parts: Sequence[Counted], betas: Sequence[float]) -> Tally:
    """Add up the counts by image that were stored with some evaluations."""
    by_set: dict[tuple[int, str, int], list[Counted]] = {}
    for part in parts:
        by_set.setdefault(part.evaluation.image_set, []).append(part)
    counts = _merge_images(
        [_numbered(alike[0].evaluation, _add_up_set(alike, betas)) for alike in by_set.values()]
    )
    n_undefined = sum(part.counts.n_undefined for part in parts)
    return Tally(counts[0], counts[1], counts[2:], n_undefined)


def _numbered(evaluation: EvaluationInfo, counts: Counts) -> CountsOfImages:
    return evaluation, np.arange(counts.shape[1]), counts


def _merge_images(parts: Sequence[CountsOfImages]) -> Counts:
    """Return the counts of several sets of images, the same image of two sets counted as one."""
    if all(evaluation.image_set[1] != FILE_SPLIT for evaluation, _, _ in parts):
        # Images of different splits and data sets.
        return np.concatenate([of_set for _, _, of_set in parts], axis=1)
    # Bits are stored by the byte, so counts may go on behind the last image.
    used = [np.flatnonzero(of_set.any(axis=0)) for _, _, of_set in parts]
    numbers = [part[0].number_images(part[1][some]) for part, some in zip(parts, used, strict=True)]
    counts = np.concatenate([part[2][:, some] for part, some in zip(parts, used, strict=True)], axis=1)
    _, place = np.unique(np.concatenate(numbers), return_inverse=True)
    return np.stack([np.bincount(place, row) for row in counts])


def _add_up_set(parts: Sequence[Counted], betas: Sequence[float]) -> Counts:
    """Return successes, failures, and bugs at each β, on one set of images, ``(2 + betas, images)``."""
    rows = [
        sum_counts([(part.counts.bits, getattr(part.counts, name)) for part in parts]) for name in OUTCOMES
    ]
    for beta in betas:
        below = [np.zeros(0, np.uint8)]
        for part in parts:
            for segment in part.successes:
                first = segment.count_below(beta)
                if first:
                    assert segment.sample_index is not None
                    below.append(segment.sample_index[:first])
        rows.append(np.bincount(np.concatenate(below)))
    n_images = max(map(len, rows))
    return np.stack([np.pad(row, (0, n_images - len(row))) for row in rows]).astype(np.float64)


def tally(parts: Sequence[Part], label_keys: Sequence[str]) -> dict[tuple[str, ...], Tally]:
    """Count the attempts of some evaluations, divided by label where asked.

    Args:
        label_keys: some of ``LABEL_KEYS``.

    Returns:
        By the names of the labels, in the order of the keys.
    """
    by_set: dict[tuple[object, ...], list[Part]] = {}
    for part in parts:
        by_set.setdefault((part[0].image_set, part[0].classes), []).append(part)
    found: dict[tuple[str, ...], list[CountsOfImages]] = {}
    for alike in by_set.values():
        classes = alike[0][0].classes
        for labels, index, counts in _count_set(alike, label_keys, len(classes)):
            names = tuple(classes[label] for label in labels)
            found.setdefault(names, []).append((alike[0][0], index, counts))
    tallies = {}
    for names, of_sets in found.items():
        counts = _merge_images(of_sets)
        n_undefined, n_no_relative = (int(counts[row].sum()) for row in (UNDEFINED, NO_RELATIVE))
        tallies[names] = Tally(counts[SUCCESS], counts[FAILURE], counts[BUGS:], n_undefined, n_no_relative)
    return tallies


def _count_set(
    parts: Sequence[Part], label_keys: Sequence[str], n_classes: int
) -> Iterator[tuple[tuple[int, ...], NDArray[np.int64], Counts]]:
    """Yield labels, ``sample_index`` and counts by image of evaluations on one set of images."""
    none = np.zeros(0, dtype=np.uint8)
    gathered = [
        [(none, none), *(piece for of_part in of_row for piece in of_part)]
        for of_row in zip(*(rows for _, rows in parts), strict=True)
    ]
    rows = [(np.concatenate([i for i, _ in some]), np.concatenate([p for _, p in some])) for some in gathered]
    n_images = 1 + max(int(image.max(initial=0)) for image, _ in rows)
    if not label_keys:
        of_images = np.stack([np.bincount(image, minlength=n_images) for image, _ in rows])
        yield (), np.arange(n_images), of_images.astype(np.float64)
        return
    numbered = [partial(_number, image, pair, n_images) for image, pair in rows]
    present, counts = _count(numbered, n_classes * n_classes * n_images)
    pair, image = np.divmod(present, n_images)
    labels = dict(zip(LABEL_KEYS, np.divmod(pair, n_classes), strict=True))
    group = pair if len(label_keys) > 1 else labels[label_keys[0]]
    order = np.argsort(group, kind="stable")
    # One pass over all: of 1,000 classes there may be as many label pairs as attempts.
    for some in np.split(order, np.flatnonzero(np.diff(group[order])) + 1) if len(order) else ():
        index, place = np.unique(image[some], return_inverse=True)
        by_image = np.stack([np.bincount(place, row) for row in counts[:, some]]).astype(np.float64)
        yield tuple(int(labels[key][some[0]]) for key in label_keys), index, by_image


def gather(
    evaluation: EvaluationInfo,
    segments: Sequence[Segment],
    betas: Sequence[float],
    population: str,
    *,
    with_labels: bool,
) -> list[list[Piece]]:
    """Return image numbers and label pairs piece by piece, for each row of the counts."""
    none = np.zeros(0, dtype=np.uint8)
    rows: list[list[Piece]] = [[] for _ in range(BUGS + len(betas))]
    for segment in segments:
        index, pair = segment.sample_index, segment.label_pair if with_labels else none
        assert index is not None
        assert pair is not None
        n = segment.n
        if population == ALL_CORRECT:
            assert segment.n_right is not None
            right = np.equal(segment.n_right, evaluation.n_evaluators)
            places = np.concatenate([[0], np.cumsum(right)])  # of the first k, how many remain
            index, pair = index[right], pair[right] if with_labels else none
            n = places[-1]
        if segment.low is None:
            rows[UNDEFINED].append((index, pair))
            continue
        rows[SUCCESS if segment.success else FAILURE].append((index, pair))
        if not segment.success:
            continue
        for row, beta in enumerate(betas, BUGS):
            first = segment.count_below(beta)
            if population == ALL_CORRECT:
                first = places[first]
            if first:
                rows[row].append((index, pair) if first == n else (index[:first], pair[:first]))
    return rows


def _number(image: Whole, pair: Whole, n_images: int) -> NDArray[np.int64]:
    """Return the cell of label pair and image that each attempt is counted in."""
    cells = pair.astype(np.int64)
    cells *= n_images
    cells += image
    return cells


def _count(
    rows: Sequence[Callable[[], NDArray[np.integer]]], n_cells: int
) -> tuple[NDArray[np.int64], Counts]:
    """Return the cells that occur, and their counts in each row ``(rows, cells)``.

    Args:
        rows: functions that return the cells of a row's attempts; called in turn, at 8 bytes an attempt.
    """
    if n_cells <= MOST_CELLS:
        counts = np.stack([np.bincount(cells(), minlength=n_cells) for cells in rows])
        present = np.flatnonzero(counts[:BUGS].any(axis=0))
        return present, counts[:, present].astype(np.float64)
    present = np.unique(np.concatenate([np.unique(cells()) for cells in rows[:BUGS]])).astype(np.int64)
    places = (np.searchsorted(present, cells()) for cells in rows)
    return present, np.stack([np.bincount(place, minlength=len(present)) for place in places]).astype(float)
