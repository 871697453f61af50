"""Arguments for a user's callable: ``--set key=value``, with values as JSON or Python write them."""

import json
from collections.abc import Iterable
from typing import Any

from jsdelta_db.errors import UsageError

PYTHONS = {"True": True, "False": False, "None": None}  # text of these would be taken for true


def parse_arguments(given: Iterable[str]) -> dict[str, Any]:
    """Return keyword arguments of texts such as ``width=64``, ``bias=false`` or ``name=wide``.

    A value is text if it is no JSON (``[1, 2]``, ``"1"``, ``null``) and not ``True``, ``False`` or ``None``.

    Raises:
        UsageError: one has no name that an argument can have, or the same name as another.
    """
    arguments: dict[str, Any] = {}
    for text in given:
        key, equals, value = text.partition("=")
        if not equals or not key.isidentifier():
            raise UsageError(f"--set {text!r} is not valid: must be key=value, such as width=64")
        if key in arguments:
            raise UsageError(f"--set {key} is given twice; give it once")
        arguments[key] = _parse(value)
    return arguments


def _parse(text: str) -> Any:  # noqa: ANN401 whatever JSON can be
    if text in PYTHONS:
        return PYTHONS[text]
    try:
        value = json.loads(text)
        json.dumps(value, allow_nan=False)  # no hash could be made of an infinity
    except (ValueError, RecursionError):
        return text
    return value
