"""Conditions on facts: ``KEY=VALUE`` and its kin, read, applied to rows, and blamed where nothing is left."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import ge, gt, le, lt
from typing import Any, TypeAlias, TypeVar

from jsdelta_db.errors import UnknownNameError, UsageError
from jsdelta_db.queries.facts.keys import ORDERED, Fact, Kind, get_key
from jsdelta_db.queries.facts.names import Label, find_label_uids, find_uid, is_call, is_judged_by
from jsdelta_db.queries.facts.values import (
    NONE,
    is_equal,
    join_values,
    read_flag,
    read_number,
    read_sizes,
    show,
    split_values,
)

WHERE = "--where"
PATTERN = re.compile(r"\s*([^\W\d][\w.-]*)\s*(!=|<=|>=|==|=|<|>)(.*)", re.DOTALL)
ORDERINGS: dict[str, Callable[[float, float], bool]] = {"<": lt, "<=": le, ">": gt, ">=": ge}
MOST_VALUES = 8  # in a message

Row: TypeAlias = Mapping[str, Any]
R = TypeVar("R", bound=Row)
Test: TypeAlias = Callable[[Row], bool]


@dataclass(frozen=True, slots=True)
class Condition:
    """A condition: that a fact is one of some values, none of them, or above or below one.

    Attributes:
        operator: ``=``, ``!=``, ``<``, ``<=``, ``>`` or ``>=``.
        values: as typed.
        option: the option that stands for it, for messages.
    """

    key: str
    operator: str
    values: tuple[str, ...]
    option: str = WHERE

    def __post_init__(self) -> None:
        if self.operator in ORDERINGS and len(self.values) > 1:
            raise UsageError(f"{self} compares with several values; give one, or = and a list")

    @property
    def text(self) -> str:
        """The condition as :func:`parse_condition` reads it."""
        return f"{self.key}{self.operator}{join_values(self.values)}"

    def __str__(self) -> str:
        """As it was typed."""
        if self.option == WHERE:
            return f"{WHERE} {self.text}"
        return " ".join(f"{self.option} {value}" for value in self.values)


@dataclass(frozen=True, slots=True)
class Known:
    """What rows may be asked for though none of them has it.

    Attributes:
        names: of a fact's values.
        labels: name and uid of what a label may mean; those of the rows where there is no entry.
    """

    names: Mapping[str, Iterable[str]] = field(default_factory=dict)
    labels: Mapping[str, Sequence[Label]] = field(default_factory=dict)


def parse_condition(text: str, option: str = WHERE) -> Condition:
    """Return the condition of a text such as ``eps=3``, ``method!=sam`` or ``sam_rho>=0.05``.

    Raises:
        UsageError: it is none.
    """
    found = PATTERN.fullmatch(text)
    if found is None:
        raise UsageError(
            f"{option} {text!r} is not valid: must be KEY=VALUE, or with !=, <, <=, > or >=, such as eps=3"
        )
    key, operator, values = found.groups()
    return Condition(key, "=" if operator == "==" else operator, split_values(values))


def as_condition(given: Condition | str) -> Condition:
    """Return a condition on a fact of an evaluation, by the key that its own means.

    Raises:
        UnknownNameError: there is no such fact.
        UsageError: it is no condition.
    """
    found = parse_condition(given) if isinstance(given, str) else given
    key = get_key(WHERE, found.key)
    return found if key == found.key else Condition(key, found.operator, found.values, found.option)


def apply_conditions(
    rows: Sequence[R],
    conditions: Iterable[Condition],
    facts: Mapping[str, Fact],
    known: Known = Known(),
) -> tuple[list[R], str]:
    """Return the rows that meet all conditions and, where none does, the reason: which left nothing.

    Names are checked against all rows, so that a misspelt one is never an empty answer.

    Raises:
        UnknownNameError: a value that no row has, and that is not known otherwise.
        UsageError: a value of another kind, or an order asked of texts.
    """
    left, reason = list(rows), ""
    for condition in conditions:
        test = bind(condition, facts[condition.key], rows, known)
        kept = [row for row in left if test(row)]
        if left and not kept:
            reason = explain(condition, facts[condition.key], left)
        left = kept
    return left, reason


def explain(condition: Condition, fact: Fact, rows: Sequence[Row]) -> str:
    """Return why a condition leaves none of some rows."""
    values = list_values(condition.key, fact, rows)
    more = f" and {len(values) - MOST_VALUES:,} more" if len(values) > MOST_VALUES else ""
    return f"{condition} leaves nothing; {condition.key} is {', '.join(values[:MOST_VALUES])}{more} here"


def list_values(key: str, fact: Fact, rows: Iterable[Row]) -> list[str]:
    """Return the values that occur, as they are typed: numbers by size, text by its letters, none last."""
    found = {show(row[key], fact, row): row[key] for row in rows}

    def place(shown: str) -> tuple[int, Any]:
        value = found[shown]
        if value is None:
            return (2, 0)
        return (0, value) if isinstance(value, int | float) else (1, shown)

    return sorted(found, key=place)


def bind(condition: Condition, fact: Fact, rows: Sequence[Row], known: Known) -> Test:
    """Return the test of a row that a condition means.

    Raises:
        UnknownNameError, UsageError: see :func:`apply_conditions`.
    """
    if condition.operator in ORDERINGS:
        return _bind_order(condition, fact, rows)
    tests = [_bind_value(condition, text, fact, rows, known) for text in condition.values]
    if condition.operator == "!=":
        return lambda row: not any(test(row) for test in tests)
    return lambda row: any(test(row) for test in tests)


def _bind_order(condition: Condition, fact: Fact, rows: Sequence[Row]) -> Test:
    if fact.kind not in ORDERED:
        raise UsageError(f"{condition}: {condition.key} has no order; use = or !=")
    read = _reader(condition, condition.values[0], fact, rows)
    compare, or_equal = ORDERINGS[condition.operator], condition.operator.endswith("=")

    def test(row: Row) -> bool:
        value, limit = row[condition.key], read(row)
        if value is None or limit is None:
            return False
        return or_equal if is_equal(value, limit) else compare(value, limit)

    return test


def _reader(
    condition: Condition, text: str, fact: Fact, rows: Sequence[Row]
) -> Callable[[Row], float | None]:
    """Return what a number means for a row: in the unit of the row's norm."""
    # The option's own name, where it is one, as its other errors begin.
    what = condition.option if condition.option != WHERE else str(condition)
    if fact.kind is not Kind.SIZE:
        number = read_number(what, text, fact.kind)
        return lambda _: number
    norms = dict.fromkeys(row[fact.beside] for row in rows if row[fact.beside])
    sizes = read_sizes(what, text, norms)
    return lambda row: sizes.get(row[fact.beside])


def _bind_value(condition: Condition, text: str, fact: Fact, rows: Sequence[Row], known: Known) -> Test:
    key = condition.key
    if text.lower() in NONE:
        return lambda row: row[key] is None
    if fact.kind in ORDERED:
        read = _reader(condition, text, fact, rows)

        def is_it(row: Row) -> bool:
            value, wanted = row[key], read(row)
            return value is not None and wanted is not None and is_equal(value, wanted)

        return is_it
    if fact.kind is Kind.FLAG:
        flag = read_flag(str(condition), text)
        return lambda row: row[key] is not None and bool(row[key]) is flag
    if fact.kind is Kind.LABEL:
        uids = find_label_uids(key, text, known.labels.get(key) or _labels(key, fact, rows))
        return lambda row: row[fact.beside] in uids
    if fact.kind is Kind.UID:
        uid = find_uid(key, text, dict.fromkeys(row[key] for row in rows if row[key]))
        return lambda row: row[key] == uid
    return _bind_text(key, text, fact, rows, known)


def _labels(key: str, fact: Fact, rows: Iterable[Row]) -> list[Label]:
    return list(dict.fromkeys((str(row[key]), row[fact.beside]) for row in rows if row[fact.beside]))


def _bind_text(key: str, text: str, fact: Fact, rows: Sequence[Row], known: Known) -> Test:
    def test(row: Row) -> bool:
        value = row[key]
        if value is None:
            return False
        if value == text:
            return True
        if fact.kind is Kind.JUDGES:
            return is_judged_by(text, row["judges"])
        if fact.kind is Kind.CALL:
            return is_call(text, value)
        if fact.kind is Kind.WORDS:
            return text in value.split()
        return bool(fact.beside) and f"{value}=={row[fact.beside]}" == text

    names = known.names.get(key, ())
    if text not in names and not any(map(test, rows)):
        found = (value for value in list_values(key, fact, rows) if value not in NONE)
        raise UnknownNameError(key, text, dict.fromkeys((*names, *found)))
    return test
