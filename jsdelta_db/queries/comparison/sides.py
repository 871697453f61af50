"""Sides: which evaluations are A and which are B, row by row."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jsdelta_db.errors import UnknownNameError, UsageError
from jsdelta_db.queries.comparison.request import ALWAYS_BY, Request, show
from jsdelta_db.queries.facts.conditions import Condition, bind, explain, list_values
from jsdelta_db.queries.facts.keys import FACTS
from jsdelta_db.queries.facts.rows import find_known
from jsdelta_db.queries.facts.values import show as show_value
from jsdelta_db.queries.grouping import sort_key
from jsdelta_db.queries.pooling import count_once, find_pooled
from jsdelta_db.queries.selection import EvaluationInfo, Row, Selection
from jsdelta_db.records import SEEN_SPLITS
from jsdelta_db.store.reading import Reader

Evaluations = Sequence[EvaluationInfo]


@dataclass(frozen=True, slots=True)
class Sides:
    """Two sides of one row.

    Attributes:
        facts: what both share, by the keys of the row.
        a, b: what they are called.
    """

    facts: Row
    a: str
    b: str
    of_a: Evaluations
    of_b: Evaluations

    @property
    def both(self) -> Evaluations:
        """The evaluations of both."""
        return (*self.of_a, *self.of_b)


@dataclass(frozen=True, slots=True)
class Layout:
    """The rows of a comparison before anything is counted.

    Attributes:
        keys: what the rows are of.
        separated: those among them that keep attempts from counting twice.
        alone: groups that only one side has, in words.
        pooled: what differs among the evaluations of one side of a row.
        n_left_out: evaluations whose attempts are all among another's.
    """

    keys: tuple[str, ...]
    sides: tuple[Sides, ...]
    separated: tuple[str, ...]
    alone: tuple[str, ...]
    pooled: Mapping[str, tuple[Any, ...]]
    n_left_out: int


def arrange(reader: Reader, request: Request, evaluations: Evaluations, selection: Selection) -> Layout:
    """Return the rows of a comparison of some evaluations.

    Raises:
        UnknownNameError: a baseline, or another name, that none of them has.
        UsageError: a side without evaluations, or sides that share some.
    """
    named = list(_name_sides(reader, request, evaluations))
    asked = _list_keys(request, [each for _, of_a, _, of_b in named for each in (*of_a, *of_b)])
    chosen = {*selection.named_facts, *request.compared}
    keys = asked
    for _, of_a, _, of_b in named:  # one's own rows of one side are the other's as well
        for some in (of_a, of_b):
            keys, _ = count_once(some, keys, chosen)
    sides: list[Sides] = []
    alone: dict[str, None] = {}
    pooled: dict[str, dict[Any, None]] = {}
    left_out: set[int] = set()
    for a, of_a, b, of_b in named:
        counted = [count_once(some, keys, chosen)[1] for some in (of_a, of_b)]
        left_out |= {e.id for e in (*of_a, *of_b)} - {e.id for some in counted for e in some}
        groups = [_group(some, keys) for some in counted]
        sides += [
            Sides(dict(zip(keys, values, strict=True)), a, b, groups[0][values], groups[1][values])
            for values in groups[0]
            if values in groups[1]
        ]
        alone |= dict.fromkeys(_list_alone(a, groups[0], groups[1], keys))
        alone |= dict.fromkeys(_list_alone(b, groups[1], groups[0], keys))
    for each in sides:
        for some in (each.of_a, each.of_b):
            for key, values in find_pooled(some, keys).items():
                pooled.setdefault(key, {}).update(dict.fromkeys(values))
    sides.sort(key=lambda each: [sort_key(value) for value in each.facts.values()])
    return Layout(
        keys, tuple(sides), keys[len(asked) :], tuple(alone),
        {key: tuple(values) for key, values in pooled.items() if key != "attacked"}, len(left_out),
    )  # fmt: skip


def _name_sides(
    reader: Reader, request: Request, evaluations: Evaluations
) -> Iterable[tuple[str, Evaluations, str, Evaluations]]:
    """Return the sides of each comparison with their names."""
    if request.is_by_key:
        return _by_key(reader, request, evaluations)
    of_a, of_b = (_choose(reader, side, evaluations) for side in (request.a, request.b))
    shared = {each.id for each in of_a} & {each.id for each in of_b}
    if shared and len(shared) == len(of_a) == len(of_b):
        raise UsageError(
            f"--a {show(request.a)} and --b {show(request.b)} are the same attacks: a comparison of a thing "
            "with itself"
        )
    if shared:
        raise UsageError(
            f"--a {show(request.a)} and --b {show(request.b)} share {len(shared):,} evaluations; "
            "add conditions that exclude each other"
        )
    return [(show(request.a), of_a, show(request.b), of_b)]


def _by_key(
    reader: Reader, request: Request, evaluations: Evaluations
) -> list[tuple[str, Evaluations, str, Evaluations]]:
    key, baseline = request.by[0], str(request.baseline)
    fact, rows = FACTS[key], [each.facts for each in evaluations]
    condition = Condition(key, "=", (baseline,), "--baseline")
    known = list_values(key, fact, rows)
    try:
        is_baseline = bind(condition, fact, rows, find_known(reader, [condition]))
    except UnknownNameError:
        raise UnknownNameError("--baseline", baseline, known) from None
    of_b = [each for each in evaluations if is_baseline(each.facts)]
    if not of_b:
        raise UnknownNameError("--baseline", baseline, known)
    name = ",".join(list_values(key, fact, [each.facts for each in of_b]))
    others: dict[str, list[EvaluationInfo]] = {value: [] for value in known}
    for each in evaluations:
        if not is_baseline(each.facts):
            others[show_value(each.facts[key], fact, each.facts)].append(each)
    found: list[tuple[str, Evaluations, str, Evaluations]] = [
        (value, of_a, name, of_b) for value, of_a in others.items() if of_a
    ]
    if not found:
        raise UsageError(
            f"{key} is {name} in all that is selected: a comparison of a thing with itself; "
            f"jsdelta query bugs --by {key} shows what there is"
        )
    return found


def _choose(reader: Reader, conditions: Sequence[Condition | str], evaluations: Evaluations) -> Evaluations:
    """Return the evaluations that meet all conditions.

    Raises:
        UsageError: there are none; the message blames a condition.
    """
    read = [each for each in conditions if isinstance(each, Condition)]
    rows, known = [each.facts for each in evaluations], find_known(reader, read)
    left = list(evaluations)
    for condition in read:
        test: Callable[[Mapping[str, Any]], bool] = bind(condition, FACTS[condition.key], rows, known)
        kept = [each for each in left if test(each.facts)]
        if not kept:
            blamed = explain(condition, FACTS[condition.key], [each.facts for each in left])
            raise UsageError(f"{condition.option} {condition.text}: {blamed}")
        left = kept
    return left


def _list_keys(request: Request, evaluations: Evaluations) -> tuple[str, ...]:
    """Return the keys of a row: each is of one data set, norm and ε.

    Raises:
        UsageError: one of them is what is compared.
    """
    asked = request.by[1:] if request.is_by_key else request.by
    for key in asked:
        if key in request.compared:
            raise UsageError(f"--by {key} divides what --a and --b compare; leave it out")
    keys = ["dataset"] if len({each.facts["dataset"] for each in evaluations}) > 1 else []
    if not {each.facts["split"] for each in evaluations}.isdisjoint(SEEN_SPLITS):
        keys.append("split")  # images that models have seen are never counted without a word
    keys += ALWAYS_BY
    return tuple(key for key in dict.fromkeys((*keys, *asked)) if key not in request.compared)


def _group(evaluations: Evaluations, keys: Sequence[str]) -> dict[tuple[Any, ...], list[EvaluationInfo]]:
    groups: dict[tuple[Any, ...], list[EvaluationInfo]] = {}
    for each in evaluations:
        groups.setdefault(tuple(each.facts[key] for key in keys), []).append(each)
    return groups


def _list_alone(
    name: str,
    own: Mapping[tuple[Any, ...], Evaluations],
    others: Mapping[tuple[Any, ...], Evaluations],
    keys: Sequence[str],
) -> Iterable[str]:
    """Yield the groups that one side has and the other has not, in words."""
    for values, of_group in own.items():
        if values not in others:
            facts = of_group[0].facts
            shown = (f"{key} {show_value(facts[key], FACTS[key], facts)}" for key in keys)
            yield f"{name} at {', '.join(shown)}"
