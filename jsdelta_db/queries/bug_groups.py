"""Groups of bugs: the attempts of some evaluations counted by group, in the cheapest way that answers.

Counts by image, stored with every evaluation, answer for JSΔ by whole evaluations; segments where labels or a
population divide them; columns where another measure, a filter or the models' part of an interval needs more.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, TypeAlias, TypeVar

import numpy as np

from jsdelta_db.config.measures import JS_DELTA, OVER_MODELS, Measuring
from jsdelta_db.queries.columns import Counted, read_counted, read_segments
from jsdelta_db.queries.deletions import Counts, Deletions, count_without
from jsdelta_db.queries.grouping import LABEL_KEYS, sort_key
from jsdelta_db.queries.judged import read_judged
from jsdelta_db.queries.measured import Measured, read_measured
from jsdelta_db.queries.selection import ATTACKED_CORRECT, EvaluationInfo, Row, Selection
from jsdelta_db.queries.tally import Tally, gather, tally, tally_images
from jsdelta_db.store.image_counts import sum_counts
from jsdelta_db.store.outside import count_outside
from jsdelta_db.store.reading import Reader


class OfAttacks(NamedTuple):
    """Numbers that whole attacks have; None by label, which is finer than an attack.

    Attributes:
        n_skipped: images, which have no target.
        n_outside: samples beyond ε, which count as failures.
    """

    n_skipped: int | None
    n_outside: int | None


# Facts, counts, and numbers by attack.
Group: TypeAlias = tuple[Row, Tally, OfAttacks]
P = TypeVar("P", bound=tuple[EvaluationInfo, *tuple[Any, ...]])


@dataclass(frozen=True, slots=True)
class Question:
    """What is counted.

    Attributes:
        betas: thresholds on the measure.
        selection: of attempts; evaluations are chosen before.
    """

    betas: tuple[float, ...]
    selection: Selection
    measuring: Measuring

    @property
    def is_plain(self) -> bool:
        """Whether JSΔ of all attempts is asked for, as stored counts have it."""
        chosen = self.selection.min_change, self.selection.min_confidence
        return self.measuring.measure == JS_DELTA and chosen == (None, None)


def tally_groups(
    reader: Reader, evaluations: Sequence[EvaluationInfo], keys: Sequence[str], question: Question
) -> list[Group]:
    """Return the groups, sorted by their facts."""
    by_attempt = question.selection.population != ATTACKED_CORRECT or bool(set(keys) & set(LABEL_KEYS))
    over_models = question.measuring.interval == OVER_MODELS
    if question.is_plain and not by_attempt:
        groups = _tally_images(reader, evaluations, keys, question)
    elif question.is_plain and not over_models:
        groups = _tally_attempts(reader, evaluations, keys, question)
    else:
        groups = _tally_measured(reader, evaluations, keys, question)
    return sorted(groups, key=lambda group: [sort_key(value) for value in group[0].values()])


def _tally_images(
    reader: Reader, evaluations: Sequence[EvaluationInfo], keys: Sequence[str], question: Question
) -> Iterator[Group]:
    """Yield groups of whole evaluations, counted by image when they were stored."""
    outside = count_outside(reader)
    groups = _group(read_counted(reader, evaluations, question.betas), keys)
    deletions: Mapping[tuple[object, ...], Deletions] = {}
    if question.measuring.interval == OVER_MODELS:
        deletions = _delete(reader, groups, question.betas)
    for values, parts in groups.items():
        of_attacks = _add_up([part.evaluation for part in parts], outside)
        tallied = replace(tally_images(parts, question.betas), deletions=deletions.get(values))
        yield dict(zip(keys, values, strict=True)), tallied, of_attacks


def _delete(
    reader: Reader, groups: Mapping[tuple[object, ...], Sequence[Counted]], betas: Sequence[float]
) -> dict[tuple[object, ...], Deletions]:
    """Return the counts of each group without each of its models."""
    deletions = {values: Deletions(len(betas)) for values in groups}
    places = {
        part.evaluation.id: (deletions[values], part) for values, parts in groups.items() for part in parts
    }
    evaluations = [part.evaluation for _, part in places.values()]
    for judged in read_judged(reader, evaluations, ("member_js",), successes_only=True):
        of_group, part = places[judged.evaluation.id]
        defined = ~np.isnan(judged.columns["js_delta"])
        success = judged if defined.all() else judged.pick(defined)
        without, lacking = count_without(success, JS_DELTA, betas)
        n_failures = int(sum_counts([(part.counts.bits, part.counts.failure)]).sum())
        bugs = np.array([float(np.count_nonzero(success.columns["js_delta"] < beta)) for beta in betas])
        counts = Counts(success.n, success.n + n_failures, bugs, without[:, :, 0], lacking)
        of_group.add(judged.evaluation, counts)
    return deletions


def _tally_attempts(
    reader: Reader, evaluations: Sequence[EvaluationInfo], keys: Sequence[str], question: Question
) -> Iterator[Group]:
    """Yield groups by label, or of some images only, counted attempt by attempt."""
    label_keys, run_keys = _divide(keys)
    population = question.selection.population
    names = ["sample_index"]
    if label_keys:
        names.append("label_pair")
    if population != ATTACKED_CORRECT:
        names.append("n_right")
    outside = count_outside(reader)
    segments = read_segments(reader, evaluations, names, betas=question.betas)
    for values, parts in _group(segments, run_keys).items():
        gathered = [
            (each, gather(each, some, question.betas, population, with_labels=bool(label_keys)))
            for each, some in parts
        ]
        of_attacks = _add_up([evaluation for evaluation, _ in parts], outside)
        of_attacks = OfAttacks(None, None) if label_keys else of_attacks
        for labels, counted in tally(gathered, label_keys).items():
            yield _name(keys, (*run_keys, *label_keys), (*values, *labels)), counted, of_attacks


def _tally_measured(
    reader: Reader, evaluations: Sequence[EvaluationInfo], keys: Sequence[str], question: Question
) -> Iterator[Group]:
    """Yield groups of attempts that are measured one by one."""
    label_keys, run_keys = _divide(keys)
    outside = count_outside(reader)
    betas, selection, measuring = question.betas, question.selection, question.measuring
    measured = read_measured(reader, evaluations, betas, selection, measuring, label_keys)
    for values, parts in _group(measured, run_keys).items():
        of_attacks = _add_up([part.evaluation for part in parts], outside)
        of_attacks = OfAttacks(None, None) if label_keys else of_attacks
        deletions = _gather_deletions(parts, len(betas))
        for labels, counted in tally([(part.evaluation, part.rows) for part in parts], label_keys).items():
            counted = replace(counted, deletions=deletions.get(labels))
            yield _name(keys, (*run_keys, *label_keys), (*values, *labels)), counted, of_attacks


def _gather_deletions(parts: Sequence[Measured], n_betas: int) -> dict[tuple[str, ...], Deletions]:
    """Return the deletions of each group of labels."""
    found: dict[tuple[str, ...], Deletions] = {}
    for part in parts:
        for labels, counts in part.counts.items():
            found.setdefault(labels, Deletions(n_betas)).add(part.evaluation, counts)
    return found


def _divide(keys: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the keys that are attempts' facts, and those that are evaluations'."""
    label_keys = [key for key in keys if key in LABEL_KEYS]
    return label_keys, [key for key in keys if key not in label_keys]


def _name(keys: Sequence[str], found: Sequence[str], values: Sequence[object]) -> Row:
    facts = dict(zip(found, values, strict=True))
    return {key: facts[key] for key in keys}


def _add_up(evaluations: Sequence[EvaluationInfo], outside: Mapping[int, int]) -> OfAttacks:
    n_outside = sum(outside.get(each.attack_id, 0) for each in evaluations)
    return OfAttacks(sum(each.n_skipped for each in evaluations), n_outside)


def _group(parts: Iterable[P], keys: Sequence[str]) -> dict[tuple[object, ...], list[P]]:
    """Gather parts, each led by its evaluation, by the evaluation's facts."""
    groups: dict[tuple[object, ...], list[P]] = {}
    for part in parts:
        groups.setdefault(tuple(part[0].facts[key] for key in keys), []).append(part)
    return groups
