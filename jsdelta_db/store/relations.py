"""What belongs to what, and what needs what: read off the schema, so that a table added later is covered.

Run-like tables have a ``uid``; every other table holds parts of them. A part belongs to the runs that its
primary key names: a sample to its attack, a metric to its model and its data set alike. Whatever else it
points to is needed by the run that it belongs to: a member's model by the ensemble.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache

from sqlalchemy import Column, Table

from jsdelta_db.store.schema import Base

MOST_BOUND = 500  # values in one statement: databases have their limits


@dataclass(frozen=True, slots=True)
class Link:
    """A column that holds the id of a run.

    Attributes:
        column: of any table.
        run: the table whose id it holds.
    """

    column: Column[int]
    run: Table


@dataclass(frozen=True, slots=True)
class Need:
    """A run that cannot be without another: two columns of one table say which.

    Attributes:
        dependent: whose ids are in ``dependent_id``.
        needed: whose ids are in ``needed_id``.
    """

    dependent: Table
    dependent_id: Column[int]
    needed: Table
    needed_id: Column[int]


@cache
def runs() -> dict[str, Table]:
    """Return the run-like tables by name, in the order that they need each other."""
    return {table.name: table for table in Base.metadata.sorted_tables if "uid" in table.c}


@cache
def parts() -> dict[str, Table]:
    """Return the other tables by name."""
    return {table.name: table for table in Base.metadata.sorted_tables if "uid" not in table.c}


def owners(part: Table) -> list[Link]:
    """Return the runs that a part belongs to: those in its primary key, else all that it points to."""
    links = list(_links(part))
    return [link for link in links if link.column.primary_key] or links


@cache
def needs() -> list[Need]:
    """Return all that runs need of runs."""
    found = [
        Need(table, table.c.id, link.run, link.column) for table in runs().values() for link in _links(table)
    ]
    for part in parts().values():
        belongs = owners(part)
        keys = {owner.column.name for owner in belongs}
        found += [
            Need(owner.run, owner.column, link.run, link.column)
            for owner in belongs
            for link in _links(part)
            if link.column.name not in keys
        ]
    return found


def conditions(table: Table, ids: Mapping[str, Collection[int]]) -> Iterator[tuple[Column[int], list[int]]]:
    """Yield the columns, and batches of their values, that say which rows of a table go."""
    if table.name in runs():
        for batch in batches(ids.get(table.name, ())):
            yield table.c.id, batch
        return
    for link in owners(table):
        for batch in batches(ids.get(link.run.name, ())):
            yield link.column, batch


def batches(ids: Iterable[int]) -> Iterator[list[int]]:
    """Yield ids in batches, the newest first: what was made from a run is newer than the run."""
    ordered = sorted(ids, reverse=True)
    for start in range(0, len(ordered), MOST_BOUND):
        yield ordered[start : start + MOST_BOUND]


def _links(table: Table) -> Iterator[Link]:
    """Yield what a table points to: by foreign keys, and by columns that are only named like one."""
    found = set()
    for key in sorted(table.foreign_keys, key=lambda key: key.parent.name):
        if key.column.name == "id" and key.column.table.name in runs():
            found.add(key.parent.name)
            yield Link(key.parent, key.column.table)
    for name, run in runs().items():
        if f"{name}_id" in table.c and f"{name}_id" not in found:
            yield Link(table.c[f"{name}_id"], run)
