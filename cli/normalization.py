"""Normalizations as typed: numbers, one a channel or one for all, or ``dataset`` for the data set's own."""

from typing import TYPE_CHECKING

from jsdelta_db.errors import UsageError

if TYPE_CHECKING:
    from jsdelta_db.samples.foreign import Normalization


def parse_normalization(mean: str | None, std: str | None) -> "Normalization | None":
    """Return the normalization that ``--mean`` and ``--std`` describe; None without them.

    Raises:
        UsageError: not numbers.
    """
    if mean is None and std is None:
        return None
    from jsdelta_db.samples.foreign import Normalization

    given = {"mean": parse_channels("mean", mean), "std": parse_channels("std", std)}
    return Normalization(**{name: values for name, values in given.items() if values is not None})


def parse_channels(option: str, text: str | None) -> tuple[float, ...] | str | None:
    """Return the numbers of a text such as ``0.49,0.48,0.45``; ``dataset`` and None as they are.

    Raises:
        UsageError: names the option.
    """
    if text is None or text == "dataset":
        return text
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise UsageError(
            f"--{option} {text!r} is not valid: must be numbers such as 0.5 or 0.49,0.48,0.45, or dataset"
        ) from None
