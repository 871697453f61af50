"""Selections: what a notebook's questions are about, by the names that the commands have for it."""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any, TypeAlias

from jsdelta_db.config.checks import check
from jsdelta_db.errors import UnknownNameError
from jsdelta_db.queries.selection import Selection

Some: TypeAlias = str | Sequence[str]
# Options whose field has another name.
ALSO = {"attack": "uids"}


def as_list(name: str, given: Some) -> list[str]:
    """Return one or several names as a list; commas divide a text.

    Raises:
        UsageError: it is neither.
    """
    if isinstance(given, str):
        return [part.strip() for part in given.split(",") if part.strip()]
    ok = isinstance(given, Sequence) and all(isinstance(each, str) for each in given)
    check(name, given, ok, "a name or a list of names")
    return list(given)


def as_conditions(given: Some) -> tuple[str, ...]:
    """Return one condition or several; commas belong to a condition's list of values."""
    return (given,) if isinstance(given, str) else tuple(as_list("where", given))


def as_betas(given: float | Sequence[float]) -> list[float]:
    """Return one number or several as a list."""
    return [given] if isinstance(given, float | int) else list(given)


def as_selection(where: Some, given: Mapping[str, Any]) -> Selection:
    """Return the selection of a question.

    Raises:
        UnknownNameError: there is no such option.
    """
    options = {each.name: each for each in fields(Selection) if each.name != "where"}
    known = {"attack" if name == "uids" else name for name in options}
    for name in given:
        if name not in known:
            raise UnknownNameError("option", name, sorted(known))
    named = {ALSO.get(name, name): value for name, value in given.items()}
    several = {name for name, each in options.items() if isinstance(each.default, tuple)}
    chosen: dict[str, Any] = {
        name: _as_tuple(value) if name in several else value for name, value in named.items()
    }
    return Selection(**chosen, where=as_conditions(where))


def _as_tuple(value: object) -> tuple[Any, ...]:
    """Return one value or several as several."""
    return tuple(value) if isinstance(value, Sequence) and not isinstance(value, str) else (value,)
