"""Aggregates that SQLite lacks, for the user's statements; PostgreSQL has ``percentile_cont``."""

import sqlite3

FAILED = "user-defined aggregate's 'step' method raised error"


class Quantile:
    """``quantile(x, q)``: the value below which a share q of the rows lies, interpolated between two."""

    def __init__(self) -> None:
        self._values: list[float] = []
        self._share: float | None = None

    def step(self, value: float | None, share: float) -> None:
        """Add a row; NULLs do not count.

        Raises:
            ValueError: the share is none; SQLite then says ``FAILED``.
        """
        if not isinstance(share, int | float) or not 0 <= share <= 1:
            raise ValueError(share)
        self._share = share
        if isinstance(value, int | float):
            self._values.append(value)

    def finalize(self) -> float | None:
        """Return the quantile; NULL without rows."""
        if not self._values or self._share is None:
            return None
        ordered = sorted(self._values)
        place = self._share * (len(ordered) - 1)
        below = int(place)
        if place == below:  # also of infinite values, which have no difference
            return ordered[below]
        return ordered[below] + (place - below) * (ordered[below + 1] - ordered[below])


class Median(Quantile):
    """``median(x)``: the middle value, or the mean of the middle two."""

    def step(self, value: float | None, share: float = 0.5) -> None:
        """Add a row; NULLs do not count."""
        super().step(value, share)


def add_functions(connection: sqlite3.Connection) -> None:
    """Let a connection's statements use ``median(x)`` and ``quantile(x, q)``."""
    connection.create_aggregate("median", 1, Median)  # type: ignore[arg-type]
    connection.create_aggregate("quantile", 2, Quantile)  # type: ignore[arg-type]
