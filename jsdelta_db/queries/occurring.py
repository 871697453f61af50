"""Occurring values: the keys of facts, each with the values that a store has."""

from typing import Any

from jsdelta_db.queries.facts.conditions import list_values
from jsdelta_db.queries.facts.keys import FACTS
from jsdelta_db.queries.facts.values import NONE, join_values
from jsdelta_db.queries.selection import Selection, list_evaluations
from jsdelta_db.store.reading import Reader

KEY_KEYS = ("key", "about", "n_values", "values")


def query_keys(
    reader: Reader,
    selection: Selection = Selection(),  # noqa: B008 frozen
    most: int = 0,
) -> list[dict[str, Any]]:
    """Return a row for each fact of the selected evaluations, with its values as ``--where`` takes them.

    Args:
        most: name only this many values of each; 0 for all.
    """
    facts = [each.facts for each in list_evaluations(reader, selection)]
    rows = []
    for key, fact in FACTS.items():
        values = list_values(key, fact, facts)
        if values and values != [NONE[0]]:
            shown = join_values(values[:most] if most else values)
            more = ",…" if most and len(values) > most else ""
            rows.append({"key": key, "about": fact.about, "n_values": len(values), "values": shown + more})
    return rows
