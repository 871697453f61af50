"""Facts of data sets with a file of their own: what their rows must say so that the images can be used."""

import math
from collections.abc import Mapping
from typing import Any

from jsdelta_db.store.constants import ADDED

COUNTS = ("n_images", "n_train", "n_baseline", "n_attack", "n_broken")
PARTS = ("n_train", "n_baseline", "n_attack")
DTYPES = ("uint8", "float32")


def find_impossible(kind: str, construction: object) -> str | None:
    """Return what is wrong in a data set's ``construction``, or None.

    Args:
        kind: of the row.
    """
    if kind != ADDED and construction is None:
        return None
    if not isinstance(construction, Mapping):
        return f"construction {construction!r:.60} is not valid: must be an object"
    return _find_in_added(construction) if kind == ADDED else None


def _find_in_added(facts: Mapping[str, Any]) -> str | None:
    shape = facts.get("image_shape")
    if not _is_list(shape, 3) or not all(_is_whole(each, 1) for each in shape or ()):
        return _refuse("image_shape", shape, "channels, height and width")
    n_channels = (shape or [0])[0]
    for name, least, must in (("mean", 0.0, "from 0 to 1"), ("std", math.ulp(0.0), "above 0 and at most 1")):
        values = facts.get(name)
        if not _is_list(values, n_channels) or not all(_is_number(each, least) for each in values or ()):
            return _refuse(name, values, f"{n_channels} numbers {must}")
    if facts.get("dtype") not in DTYPES:
        return _refuse("dtype", facts.get("dtype"), " or ".join(DTYPES))
    for name in COUNTS:
        if not _is_whole(facts.get(name), 0):
            return _refuse(name, facts.get(name), "a whole number from 0")
    total = sum(facts[name] for name in PARTS)
    if facts["n_images"] != total:
        return _refuse("n_images", facts["n_images"], f"the {total} of its splits")
    return None


def _is_list(value: object, length: int) -> bool:
    return isinstance(value, list) and len(value) == length


def _is_whole(value: object, least: int) -> bool:
    return type(value) is int and value >= least


def _is_number(value: object, least: float) -> bool:
    """Return whether a value is a number from the least to 1; NaN is none."""
    return type(value) in (int, float) and least <= float(value) <= 1.0  # type: ignore[arg-type] # of those types


def _refuse(name: str, value: object, must: str) -> str:
    return f"construction.{name} {value!r:.60} is not valid: must be {must}"
