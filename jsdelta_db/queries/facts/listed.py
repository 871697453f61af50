"""Listed rows: models, ensembles and data sets, filtered by the columns that they show."""

from collections.abc import Iterable, Sequence
from typing import Any

from jsdelta_db.errors import UnknownNameError
from jsdelta_db.queries.facts.conditions import Condition, apply_conditions, parse_condition
from jsdelta_db.queries.facts.keys import Fact, Kind

Row = dict[str, Any]
COLUMN = "column"
# Columns that mean more than their values' type tells.
SPECIAL = {
    "robust_eps": Fact(Kind.SIZE, COLUMN, "robust_norm"),
    "ensembles": Fact(Kind.WORDS, COLUMN),
    "uid": Fact(Kind.UID, COLUMN),
    "model": Fact(Kind.UID, COLUMN),
}
OTHER_NAMES = {"arch": "architecture", "trained_on": "dataset", "model_seed": "seed"}
TYPES: dict[type, Kind] = {bool: Kind.FLAG, int: Kind.WHOLE, float: Kind.NUMBER, str: Kind.TEXT}


def filter_rows(
    rows: Sequence[Row], keys: Sequence[str], where: Iterable[str], uid: str = "uid"
) -> tuple[list[Row], str]:
    """Return the rows that meet all conditions on their columns and, where none does, the reason.

    Args:
        uid: the column whose start may follow a name, as in ``digits@db99e8ec``.

    Raises:
        UnknownNameError: a column that there is not, or a value that no row has.
        UsageError: a condition that is none, or a value of another kind than its column's.
    """
    conditions = [_resolve(parse_condition(text), keys) for text in where]
    facts = {each.key: _find_fact(each.key, rows, uid) for each in conditions}
    return apply_conditions(rows, conditions, facts)


def _resolve(condition: Condition, keys: Sequence[str]) -> Condition:
    key = condition.key.replace("-", "_")
    key = key if key in keys else OTHER_NAMES.get(key, key)
    if key not in keys:
        raise UnknownNameError("--where", condition.key, keys)
    return Condition(key, condition.operator, condition.values)


def _find_fact(key: str, rows: Iterable[Row], uid: str) -> Fact:
    """Return what a column holds, by its name or by its values."""
    if key == "name":
        return Fact(Kind.LABEL, COLUMN, uid)
    if key in SPECIAL:
        return SPECIAL[key]
    found = {type(row[key]) for row in rows if row[key] is not None}
    kinds = {TYPES.get(each, Kind.TEXT) for each in found}
    return Fact(kinds.pop() if len(kinds) == 1 else Kind.TEXT, COLUMN)
