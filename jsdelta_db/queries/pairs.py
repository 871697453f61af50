"""Label pairs: the share of bugs from each source label to each target label, as rows or as a matrix."""

from collections.abc import Iterable, Sequence
from typing import Any

from jsdelta_db.errors import UsageError
from jsdelta_db.queries.bugs import query_bugs
from jsdelta_db.queries.grouping import LABEL_KEYS, Table
from jsdelta_db.queries.selection import Row, Selection
from jsdelta_db.store.reading import Reader

LABEL_PAIR = "label-pair"


def query_pairs(
    reader: Reader,
    beta: float,
    by: Sequence[str] = (),
    selection: Selection = Selection(),  # noqa: B008 frozen
) -> Table:
    """Return the share of bugs for each label pair: ``query bugs`` by label pair, and by what else is asked.

    Pairs without a success are left out.

    Raises:
        UsageError: a β outside (0, ∞), an unknown grouping, or one by label, which pairs are.
    """
    for name in by:
        if name == LABEL_PAIR or name.replace("-", "_") in LABEL_KEYS:
            raise UsageError(f"--by {name} is what label pairs are divided by anyway; leave it out")
    table = query_bugs(reader, (beta,), (*by, LABEL_PAIR), selection)
    table.rows[:] = [row for row in table.rows if row["n_success"]]
    return table


def pivot(table: Table) -> tuple[list[str], list[Row]]:
    """Return a matrix of bug fractions: its keys, and a row for each source label, by target label.

    A pair without a success is None.
    """
    first = [*(key for key in table.keys if key not in LABEL_KEYS), "beta", "source_label"]
    targets = sort_labels({row["target_label"] for row in table.rows})
    # A label may be called as a key is.
    names = {target: f"to {target}" if target in first else target for target in targets}
    found: dict[tuple[Any, ...], Row] = {}
    for row in table.rows:
        facts = {key: row[key] for key in first}
        line = found.setdefault(tuple(facts.values()), {**facts, **dict.fromkeys(names.values())})
        line[names[row["target_label"]]] = row["bug_fraction"]
    return [*first, *names.values()], list(found.values())


def sort_labels(labels: Iterable[str]) -> list[str]:
    """Return labels in order: numbers by their value, then names."""
    return sorted(labels, key=lambda label: (0, int(label), "") if label.isdecimal() else (1, 0, label))
