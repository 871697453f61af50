"""Checks and limits that the configurations share."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import fields
from numbers import Integral, Real
from typing import Any

from jsdelta_db.errors import UnknownNameError, UsageError, one_of

DTYPES = ("auto", "float32", "bfloat16")
DEVICES = ("auto", "cpu", "cuda", "cuda:N")
OUTPUTS = ("logits", "probs", "log-probs")  # what a network made elsewhere may return
# Those that an attack implements: a row must not record a setting that nothing obeyed.
NORMS = ("linf", "l2")
# Beyond these a number was mistyped: it would compute for days, or no machine could hold it.
MOST_EPOCHS, MOST_WIDTH, MOST_STEPS = 100_000, 4_096, 10_000

KINDS: dict[str, type] = {"int": Integral, "float": Real, "str": str, "bool": bool, "None": type(None)}
TITLES = {
    "int": "a whole number",
    "float": "a number",
    "str": "text",
    "bool": "True or False",
    "None": "None",
}


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


def check_device(device: object) -> None:
    """Raise an error unless a device is one that may be asked for.

    Raises:
        UsageError: as :func:`check`.
    """
    is_card = isinstance(device, str) and re.fullmatch("cuda:[0-9]+", device) is not None
    check("device", device, is_card or device in DEVICES[:-1], one_of(DEVICES))


def device_kind(device: str) -> str:
    """Return a requested device without its number: which of the cards computes is no part of a run."""
    return device.partition(":")[0]


def is_positive(value: float) -> bool:
    """Return whether a value is finite and above 0."""
    return math.isfinite(value) and value > 0


def is_not_negative(value: float) -> bool:
    """Return whether a value is finite and not below 0."""
    return math.isfinite(value) and value >= 0


def is_whole(value: Any, least: int) -> bool:  # noqa: ANN401 what a caller hands over
    """Return whether a value is a whole number, of any integer type, and not below another."""
    return isinstance(value, Integral) and value is not True and value is not False and int(value) >= least


def check_settings(config: type[Any], settings: Mapping[str, Any], without: Sequence[str] = ()) -> None:
    """Check that settings are fields of a configuration, and of their fields' types.

    Args:
        config: a dataclass whose fields are numbers, texts and flags with defaults.
        without: fields that are given otherwise.

    Raises:
        UsageError: names what there is, or what a value must be.
    """
    known = {field.name: field for field in fields(config) if field.name not in without}
    for name, value in settings.items():
        if name not in known:
            raise UnknownNameError("setting", name, known)
        kind = known[name].type
        allowed = (kind.__name__ if isinstance(kind, type) else str(kind)).split(" | ")
        kinds = tuple(KINDS[each] for each in allowed)
        ok = isinstance(value, kinds) and ("bool" in allowed) == isinstance(value, bool)
        check(name, value, ok, " or ".join(TITLES[each] for each in allowed))
