"""Naming: which row a reference means, by its exact name or by a prefix of its uid.

The one place that decides it. Free of SQLAlchemy, so that queries on the fast path share it: candidates
come as name (None without one), uid and row.
"""

from collections.abc import Iterable
from typing import TypeVar

from jsdelta_db.errors import UnknownNameError, UsageError

# Characters of a uid's prefix. Fewer would be taken for a seed, and hit by chance in a store that grows.
SHORTEST_PREFIX = 4
# For options that only read, and only uids (or an ensemble): there any prefix is safe.
ANY_PREFIX = 1

T = TypeVar("T")
Candidate = tuple[str | None, str, T]


def match(reference: str, named: Iterable[Candidate[T]], *, shortest: int = SHORTEST_PREFIX) -> list[T]:
    """Return the rows of that name; without any, those whose uid starts with the reference.

    Args:
        reference: a name, or a prefix of a uid.
        named: name, uid and row of each candidate.
        shortest: characters that a prefix must have.
    """
    candidates = list(named)
    exact = [row for name, _, row in candidates if name == reference]
    if exact or len(reference) < shortest:
        return exact
    return [row for _, uid, row in candidates if uid.startswith(reference)]


def match_ensembles(
    reference: str, named: Iterable[Candidate[T]], *, shortest: int = SHORTEST_PREFIX
) -> list[T]:
    """Return ensembles as :func:`match` does; else the one that goes on from the reference.

    A default name says what differs from the recipe: while there is no other, ``digits`` means
    ``digits-epochs3``.
    """
    candidates = list(named)
    found = match(reference, candidates, shortest=shortest)
    longer = [row for name, _, row in candidates if (name or "").startswith(f"{reference}-")]
    return longer if not found and len(longer) == 1 else found


def find_match(
    what: str, reference: str, named: Iterable[Candidate[T]], *, shortest: int = SHORTEST_PREFIX
) -> T | None:
    """Return the one row that a reference means; None if there is none.

    Args:
        what: the kind of row, for the message.
        reference, named, shortest: as for :func:`match`.

    Raises:
        UsageError: it means several (the message lists their uids).
    """
    with_uids = ((name, uid, (uid, row)) for name, uid, row in named)
    found = match(reference, with_uids, shortest=shortest)
    if len(found) > 1:
        raise ambiguous(what, reference, (uid for uid, _ in found))
    return found[0][1] if found else None


def get_match(
    what: str,
    reference: str,
    named: Iterable[Candidate[T]],
    known: Iterable[str],
    *,
    hint: str = "",
    shortest: int = SHORTEST_PREFIX,
) -> T:
    """Return the one row that a reference means.

    Args:
        what: the kind of row, for the message.
        reference, named, shortest: as for :func:`match`.
        known: names or uids that the message lists where there is none.
        hint: the next command, for the same message.

    Raises:
        UnknownNameError: it means none.
        UsageError: it means several.
    """
    found = find_match(what, reference, named, shortest=shortest)
    if found is None:
        raise UnknownNameError(what, reference, known, hint)
    return found


def ambiguous(what: str, reference: str, uids: Iterable[str]) -> UsageError:
    """Return the error for a reference that means several rows."""
    listed = list(uids)
    return UsageError(f"{what} {reference!r} names {len(listed)}; give one by its uid: {', '.join(listed)}")
