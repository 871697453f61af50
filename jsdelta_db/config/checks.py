"""Checks and limits that the configurations share."""

import math

from jsdelta_db.errors import UsageError

DTYPES = ("auto", "float32", "bfloat16")

DEVICES = ("auto", "cpu", "cuda")

# What an attack can carry out: a row must not record a setting that nothing obeyed.
NORMS = ("linf", "l2")


def check(name: str, value: object, ok: bool, valid: str) -> None:
    """Refuse a value that is not ok.

    Raises:
        UsageError: names the value and what it must be.
    """
    if not ok:
        raise UsageError(f"{name} {value!r} is not valid: must be {valid}")


def is_positive(value: float) -> bool:
    """Whether a value is finite and above 0."""
    return math.isfinite(value) and value > 0


def is_not_negative(value: float) -> bool:
    """Whether a value is finite and not below 0."""
    return math.isfinite(value) and value >= 0


# Beyond these a number was mistyped: nothing would come of it for days, or no machine could hold it.
MOST_EPOCHS, MOST_WIDTH, MOST_STEPS = 100_000, 4_096, 10_000
