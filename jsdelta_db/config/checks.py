"""Checks and limits that the configurations share."""

import math
from collections.abc import Sequence

from jsdelta_db.errors import UsageError, one_of

DTYPES = ("auto", "float32", "bfloat16")
DEVICES = ("auto", "cpu", "cuda")
# Those that an attack implements: a row must not record a setting that nothing obeyed.
NORMS = ("linf", "l2")
# Beyond these a number was mistyped: it would compute for days, or no machine could hold it.
MOST_EPOCHS, MOST_WIDTH, MOST_STEPS = 100_000, 4_096, 10_000


def check(name: str, value: object, ok: bool, valid: str) -> None:
    """Raise an error unless a value is ok.

    Raises:
        UsageError: with the field's name as its ``key``; says the value and what it must be.
    """
    if not ok:
        raise UsageError(f"{name} {value!r} is not valid: must be {valid}", name)


def check_choice(name: str, value: str, choices: Sequence[str]) -> None:
    """Raise an error unless a value is one of some.

    Raises:
        UsageError: as :func:`check`.
    """
    check(name, value, value in choices, one_of(choices))


def is_positive(value: float) -> bool:
    """Return whether a value is finite and above 0."""
    return math.isfinite(value) and value > 0


def is_not_negative(value: float) -> bool:
    """Return whether a value is finite and not below 0."""
    return math.isfinite(value) and value >= 0
