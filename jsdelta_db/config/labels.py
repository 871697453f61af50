"""Labels as a user types them: by name or number."""

from collections.abc import Sequence

from jsdelta_db.errors import UnknownNameError

MOST_DIGITS = 18  # Python reads no number of thousands


def find_label(text: str, classes: Sequence[str]) -> int | None:
    """Return the number of a label given by name or number; None if there is no such label.

    Args:
        classes: label names, in label order; a name that looks like a number is a name.
    """
    if text in classes:
        return list(classes).index(text)
    is_number = text.isdecimal() and len(text) <= MOST_DIGITS
    return int(text) if is_number and int(text) < len(classes) else None


def parse_label(option: str, text: str, classes: Sequence[str], rules: Sequence[str] = ()) -> int:
    """Return the number of a label given by name or number.

    Args:
        classes: label names, in label order.
        rules: other values that the option takes, for the error.

    Raises:
        UnknownNameError: neither a name nor a number of a label.
    """
    number = find_label(text, classes)
    if number is None:
        raise UnknownNameError(option, text, (*rules, *classes))
    return number
