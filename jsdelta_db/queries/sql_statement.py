"""The user's statement: how it may begin, its parameters, and the errors for one that fails."""

import re
from collections.abc import Mapping

from jsdelta_db.errors import StoreError, UsageError

# Statements that only read, on either engine; all others are refused before the database sees them.
STARTS = ("SELECT", "WITH", "VALUES", "TABLE", "EXPLAIN", "PRAGMA")

# What a colon may stand in without being a parameter's: texts, quoted names, comments, PostgreSQL's casts.
TOKENS = re.compile(r"'(?:[^']|'')*'|\"[^\"]*\"|--[^\n]*|/\*.*?\*/|::|%|:([A-Za-z_]\w*)", re.DOTALL)
IGNORED = re.compile(r"(?:\s|\(|--[^\n]*(?:\n|$)|/\*.*?\*/)*", re.DOTALL)


def stopped(timeout: float) -> StoreError:
    """Return the error for a statement that took too long."""
    return StoreError(f"the statement was stopped after {timeout:g} s; ask for less, or give more --timeout")


def refused(reason: object, there_is: str = "", advice: str = "must be one SELECT") -> UsageError:
    """Return the error for a statement that is not valid.

    Args:
        there_is: the columns or tables that could be meant, in place of the advice.
    """
    first = (str(reason).strip().splitlines() or [type(reason).__name__])[0]
    advice = f"there is: {there_is}" if there_is else advice
    return UsageError(f"the statement was refused: {first}: {advice}; see jsdelta query sql --help")


def find_parameters(statement: str) -> list[str]:
    """Return the names of a statement's parameters, ``:name``; not those in texts and comments."""
    return list(dict.fromkeys(name for name in TOKENS.findall(statement) if name))


def as_percent_format(statement: str) -> str:
    """Return a statement with its parameters as ``%(name)s``, as PostgreSQL's driver takes them."""

    def rewrite(match: re.Match[str]) -> str:
        return f"%({match[1]})s" if match[1] else match[0].replace("%", "%%")

    return TOKENS.sub(rewrite, statement)


def check_parameters(statement: str, given: Mapping[str, object]) -> None:
    """Check that each parameter has a value and each value a parameter.

    Raises:
        UsageError: names the first that has none.
    """
    wanted = find_parameters(statement)
    for name in wanted:
        if name not in given:
            raise UsageError(f"the statement has :{name}, which has no value; add -p {name}=VALUE")
    for name in given:
        if name not in wanted:
            there_is = ", ".join(f":{each}" for each in wanted) or "none"
            raise UsageError(f"-p {name}: the statement has no :{name}; its parameters are: {there_is}")


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
