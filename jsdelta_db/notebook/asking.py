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
