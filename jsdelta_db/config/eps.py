"""Perturbation sizes ε: parsed, formatted, and their limits."""

from collections.abc import Iterable
from numbers import Real
from typing import Any

from jsdelta_db.errors import UsageError

SMALLEST = 1e-6  # the size of samples that change nothing: a radius is above 0
# By how much a sample's size may be above ε and still count as ε: float32 rounds, and so do other libraries.
RELATIVE_ROUNDING, ROUNDING = 1e-4, 1e-6
LARGEST_L2 = 1000.0  # beyond the diagonal of a 1,000 × 1,000 image; a slip of the keyboard


def parse_eps(text: str, norm: str = "linf", option: str = "--eps") -> float:
    """Return the perturbation size of a text; errors name the option.

    For linf a bare number is in units of 1/255 (``3`` is 3/255) and a fraction is taken as written
    (``8/255``); for every other norm a number is as written, in that norm's unit (``0.5``). A bare number
    below 1 is refused for linf: other libraries write 8/255 as 0.0314, which here would be next to nothing.

    Raises:
        UsageError: not a number, outside (0, 1] after conversion (l2: outside (0, 1000]), or ambiguous.
    """
    valid = (
        "must be a number in (0, 255], in units of 1/255, or a fraction such as 8/255"
        if norm == "linf"
        else f"must be a number in (0, {LARGEST_L2:g}] for {norm}, such as 0.5"
    )
    numerator, slash, denominator = text.strip().partition("/")
    try:
        divisor = float(denominator) if slash else 255.0 if norm == "linf" else 1.0
        eps = float(numerator) / divisor
    except (ValueError, ZeroDivisionError):
        raise UsageError(f"{option} {text!r} is not a perturbation size: {valid}") from None
    if not (0.0 < eps <= largest_eps(norm) and divisor > 0):
        raise UsageError(f"{option} {text!r} is out of range: {valid}")
    if norm == "linf" and not slash and eps * 255 < 1:
        raise _below_a_level(text.strip(), option, round(eps * 255 * 255))
    return eps


def _below_a_level(text: str, option: str, levels: int) -> UsageError:
    """Return the error for a bare number below 1; ``levels``: its pixel levels as a share of [0, 1]."""
    other = f"for {levels}/255 write {levels} or {levels}/255; " if levels else ""
    return UsageError(f"{option}: {text}/255 is less than a pixel level; {other}to mean it, write {text}/255")


def largest_eps(norm: str) -> float:
    """Return the largest radius of a norm: all of [0, 1] for linf."""
    return 1.0 if norm == "linf" else LARGEST_L2


def farthest(eps: float) -> float:
    """Return the largest size that still counts as within ε: at 8/255 a thousandth of a level more."""
    return eps * (1.0 + RELATIVE_ROUNDING) + ROUNDING


def format_eps(eps: float, norm: str = "linf") -> str:
    """Return a stored ε as text: ``3/255`` where it is a whole number of pixel levels."""
    levels = eps * 255
    if norm == "linf" and round(levels) >= 1 and abs(levels - round(levels)) < 1e-6:
        return f"{round(levels)}/255"
    return f"{levels:.4g}/255" if norm == "linf" else f"{eps:g}"


def as_radii(given: object) -> list[float]:
    """Return the radii that a caller in Python names, each once, ascending: a number, a list or an array.

    Raises:
        UsageError: anything else, or none.
    """
    plain = given.tolist() if hasattr(given, "tolist") else given  # NumPy's and torch's, of any shape
    listed: list[Any] = (
        list(plain) if isinstance(plain, Iterable) and not isinstance(plain, str | bytes) else [plain]
    )
    if not listed:
        raise UsageError("eps is empty: must be one radius or more, such as 3 / 255")
    if not all(isinstance(each, Real) and not isinstance(each, bool) for each in listed):
        raise UsageError(f"eps {given!r} is not valid: must be one radius or more, such as 3 / 255")
    return sorted({float(each) for each in listed})
