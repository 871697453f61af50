"""Values of facts: read from text as the option of that name reads them, and shown."""

import math
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from typing import Any

from jsdelta_db.config.checks import NORMS
from jsdelta_db.config.eps import format_eps, parse_eps
from jsdelta_db.errors import UsageError
from jsdelta_db.queries.facts.keys import Fact, Kind

TOLERANCE = 1e-5  # relative: float rounding, and the digits that a table shows
NONE = ("none", "–")  # as typed, and as tables show it
FLAGS = {"yes": True, "true": True, "1": True, "no": False, "false": False, "0": False}
QUOTE = '"'


def is_equal(one: float, other: float) -> bool:
    """Tell whether numbers are the same as far as a table shows them."""
    return math.isclose(one, other, rel_tol=TOLERANCE)


def read_number(what: str, text: str, kind: Kind) -> float:
    """Return a number, whole or not; a fraction such as ``8/255`` as well.

    Args:
        what: what is asked, for the message.

    Raises:
        UsageError: it is none.
    """
    numerator, slash, denominator = text.strip().partition("/")
    try:
        if kind is Kind.WHOLE:
            return int(text)
        return float(numerator) / (float(denominator) if slash else 1.0)
    except (ValueError, ZeroDivisionError):
        valid = "a whole number" if kind is Kind.WHOLE else "a number"
        raise UsageError(f"{what}: {text!r} is not valid: must be {valid}") from None


def read_flag(what: str, text: str) -> bool:
    """Return whether a text means yes.

    Raises:
        UsageError: it means neither yes nor no.
    """
    if text.lower() not in FLAGS:
        raise UsageError(f"{what}: {text!r} is not valid: must be yes or no")
    return FLAGS[text.lower()]


def read_sizes(what: str, text: str, norms: Iterable[str]) -> dict[str, float]:
    """Return the size that a text means in each norm: ``3`` is 3/255 in linf; norms where it is none lack.

    Raises:
        UsageError: it is a size in none of them.
    """
    found: dict[str, float] = {}
    first: UsageError | None = None
    for norm in list(norms) or NORMS:
        try:
            found[norm] = parse_eps(text, norm, what)
        except UsageError as error:
            first = first or error
    if not found and first is not None:
        raise first
    return found


def show(value: object, fact: Fact, row: Mapping[str, Any]) -> str:
    """Return a value as ``--where`` takes it.

    Args:
        row: the facts beside it, for the norm of a size.
    """
    if value is None:
        return NONE[0]
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        if fact.kind is Kind.SIZE:
            return _show_size(value, row.get(fact.beside) or "linf")
        return f"{value:.7g}"
    return str(value)


@cache
def _show_size(size: float, norm: str) -> str:
    shown = format_eps(size, norm)
    numerator, _, denominator = shown.partition("/")
    read = float(numerator) / float(denominator or 1)
    return shown if is_equal(read, size) else f"{size * 255:.7g}/255" if denominator else f"{size:.7g}"


def join_values(values: Iterable[str]) -> str:
    """Return values as a list of ``--where``; those that would not read as they are in quotes."""
    return ",".join(map(_quote, values))


def _quote(value: str) -> str:
    if value and value == value.strip() and "," not in value and QUOTE not in value:
        return value
    return QUOTE + value.replace(QUOTE, QUOTE * 2) + QUOTE


def split_values(text: str) -> tuple[str, ...]:
    """Return the values of a list: separated by commas; in double quotes a comma is one of the value's.

    Raises:
        UsageError: a quote without its end, or text after it.
    """
    return tuple(_split(text))


def _split(text: str) -> Iterator[str]:
    rest = text
    while True:
        if rest.lstrip().startswith(QUOTE):
            value, rest = _read_quoted(rest.lstrip()[1:], text)
        else:
            value, comma, after = rest.partition(",")
            value, rest = value.strip(), comma + after
        yield value
        if not rest:
            return
        rest = rest[1:]


def _read_quoted(rest: str, whole: str) -> tuple[str, str]:
    """Return a quoted value, whose first quote is gone, and what follows: nothing, or a comma first."""
    value = ""
    while True:
        part, quote, rest = rest.partition(QUOTE)
        value += part
        if not quote:
            raise UsageError(f'{whole!r} lacks the end of a quoted value: write "a,b" (in it "" for a quote)')
        if not rest.startswith(QUOTE):
            break
        value, rest = value + QUOTE, rest[1:]
    rest = rest.lstrip()
    if rest and not rest.startswith(","):
        raise UsageError(f"{whole!r} has text after a quoted value: separate values by commas")
    return value, rest
