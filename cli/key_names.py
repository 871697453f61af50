"""Names of keys that changed: for one release the old ones stand beside the new where machines read."""

from collections.abc import Sequence

from .printing import Output
from .tables import Row

OLD_NAMES = {"judged_by": "ensemble"}


def add_old_names(
    rows: Sequence[Row], keys: Sequence[str], output: Output
) -> tuple[Sequence[Row], Sequence[str]]:
    """Return rows and keys with the keys' old names, each after its new one; tables for people have none."""
    old = {new: name for new, name in OLD_NAMES.items() if new in keys and name not in keys}
    if output.is_for_people or not old:
        return rows, keys
    named = [name for key in keys for name in (key, *([old[key]] if key in old else []))]
    return [{**row, **{name: row[new] for new, name in old.items()}} for row in rows], named
