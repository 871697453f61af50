"""The user's statement: how it may begin, and the errors for one that fails."""

import re

from jsdelta_db.errors import StoreError, UsageError

# Statements that only read, on either engine; all others are refused before the database sees them.
STARTS = ("SELECT", "WITH", "VALUES", "TABLE", "EXPLAIN", "PRAGMA")

IGNORED = re.compile(r"(?:\s|\(|--[^\n]*(?:\n|$)|/\*.*?\*/)*", re.DOTALL)


def stopped(timeout: float) -> StoreError:
    """Return the error for a statement that took too long."""
    return StoreError(f"the statement was stopped after {timeout:g} s; ask for less, or give more --timeout")


def refused(reason: object) -> UsageError:
    """Return the error for a statement that is not valid."""
    first = (str(reason).strip().splitlines() or [type(reason).__name__])[0]
    return UsageError(f"the statement was refused: {first}: must be one SELECT; see jsdelta query sql --help")


def check_start(statement: str) -> None:
    """Check that a statement begins like one that reads.

    Raises:
        UsageError: it does not.
    """
    match = IGNORED.match(statement)
    word = re.match(r"\w*", statement[match.end() if match else 0 :])
    start = word.group().upper() if word else ""
    if start not in STARTS:
        raise refused(f"it starts with {start or 'nothing'!r}, and only reading is allowed")
