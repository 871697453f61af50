"""Selections: what a notebook's questions are about, by the names that the commands have for it."""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from jsdelta_db.config.checks import check
from jsdelta_db.errors import UnknownNameError
from jsdelta_db.queries.selection import Selection

# Options whose field has another name.
ALSO = {"attack": "uids"}


def as_list(name: str, given: str | Sequence[str]) -> list[str]:
    """Return one or several names as a list; commas divide a text.

    Raises:
        UsageError: it is neither.
    """
    if isinstance(given, str):
        return [part.strip() for part in given.split(",") if part.strip()]
    ok = isinstance(given, Sequence) and all(isinstance(each, str) for each in given)
    check(name, given, ok, "a name or a list of names")
    return list(given)


def as_selection(where: str | Sequence[str], given: Mapping[str, Any]) -> Selection:
    """Return the selection of a question.

    Raises:
        UnknownNameError: there is no such option.
    """
    del where
    options = {each.name: each for each in fields(Selection)}
    known = {"attack" if name == "uids" else name for name in options}
    for name in given:
        if name not in known:
            raise UnknownNameError("option", name, sorted(known))
    named = {ALSO.get(name, name): value for name, value in given.items()}
    several = {name for name, each in options.items() if isinstance(each.default, tuple)}
    chosen: dict[str, Any] = {
        name: _as_tuple(value) if name in several else value for name, value in named.items()
    }
    return Selection(**chosen)


def _as_tuple(value: object) -> tuple[Any, ...]:
    """Return one value or several as several."""
    return tuple(value) if isinstance(value, Sequence) and not isinstance(value, str) else (value,)
