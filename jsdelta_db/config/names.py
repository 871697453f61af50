"""Names that people give: of ensembles, models and data sets, and other text that is stored and shown."""

import re

from jsdelta_db.errors import UsageError

LONGEST_NAME = 100
# Options' own words.
RESERVED = ("all", "any", "auto", "dataset", "file", "first", "newest", "none", "unknown")
UID = re.compile(r"[0-9a-f]{8,16}")  # as tables show them, or whole
SEPARATORS = " ._-+="


def check_text(what: str, text: str, longest: int = LONGEST_NAME) -> str:
    """Return a text if it can be shown in one line: no control characters, newlines or bidi marks.

    Raises:
        UsageError: it cannot, is empty, or is too long.
    """
    if not text.strip() or not text.isprintable() or len(text) > longest:
        raise UsageError(
            f"{what} {text[:longest]!r} is not valid: must be 1 to {longest} printable characters"
        )
    return text


def check_name(what: str, name: str) -> str:
    """Return a name if nothing else could be meant by it.

    Raises:
        UsageError: it is no text as :func:`check_text` wants it, has other characters than letters, digits
            and ``. _ - + =``, or reads as a number, a uid or a word that options take.
    """
    check_text(what, name)
    fits = all(char.isalnum() or char in SEPARATORS for char in name) and name == name.strip(" -")
    if not fits or name.isdigit() or UID.fullmatch(name) or name in RESERVED:
        raise UsageError(
            f"{what} {name!r} is not valid; choose another of letters, digits, spaces and . _ - + =, "
            f"not a number, a uid or one of {', '.join(RESERVED)}"
        )
    return name
