"""Measures: names of the readings of "did other models notice?", and of what an interval covers."""

import math
from dataclasses import dataclass, replace

from jsdelta_db.config.checks import check
from jsdelta_db.errors import UnknownNameError

JS_DELTA, JS_OF_MEAN, MEDIAN, RELATIVE = MEASURES = ("js-delta", "js-of-mean", "median", "relative")
OVER_MODELS, OVER_IMAGES = INTERVALS = ("models", "images")
MOST_BY_DEFAULT = 1_000_000  # attempts whose models are left out in turn without being asked


def check_measure(measure: str) -> None:
    """Check a measure's name.

    Raises:
        UnknownNameError: lists the measures.
    """
    if measure not in MEASURES:
        raise UnknownNameError("measure", measure, MEASURES)


def check_interval(interval: str) -> None:
    """Check what intervals are to cover.

    Raises:
        UnknownNameError: lists the choices.
    """
    if interval not in INTERVALS:
        raise UnknownNameError("interval", interval, INTERVALS)


def check_share(name: str, value: float) -> float:
    """Return a smallest change or confidence as it is.

    Raises:
        UsageError: it is negative, infinite or no number.
    """
    check(name, value, 0 <= value < math.inf, "a number from 0, such as 0.4")
    return value


@dataclass(frozen=True, slots=True)
class Measuring:
    """What a bug is measured by, and whose draw its intervals cover.

    Attributes:
        measure: one of ``MEASURES``.
        interval: one of ``INTERVALS``; None for models, unless more than ``MOST_BY_DEFAULT`` attempts make
            that slow.

    Raises:
        UnknownNameError: an unknown measure or interval.
    """

    measure: str = JS_DELTA
    interval: str | None = None

    def __post_init__(self) -> None:
        check_measure(self.measure)
        if self.interval is not None:
            check_interval(self.interval)

    def for_attempts(self, n_attempts: int) -> "Measuring":
        """Return itself with the interval that so many attempts get."""
        if self.interval is not None:
            return self
        return replace(self, interval=OVER_MODELS if n_attempts <= MOST_BY_DEFAULT else OVER_IMAGES)
