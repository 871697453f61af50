"""Relations: which rows belong to a run and which runs need which, read off the schema's foreign keys.

A run-like table has a ``uid``; every other table holds parts of runs. A part belongs to the runs that its
primary key names: a sample to its attack, a metric to its model and its data set alike. Whatever else it
points to is needed by the run that it belongs to: a member's model by the ensemble. So a table that is added
later is covered, by deletion and by exports, without a line here.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from graphlib import TopologicalSorter

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
    """A run that cannot be without another: two columns of one table name both.

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
    """Return the run-like tables by name, each behind those that it needs."""
    tables = _run_tables()
    before = {name: {each.needed.name for each in needs() if each.dependent.name == name} for name in tables}
    # A data set may need another one.
    order = TopologicalSorter({name: needed - {name} for name, needed in before.items()}).static_order()
    return {name: tables[name] for name in order}


@cache
def parts() -> dict[str, Table]:
    """Return the other tables by name."""
    return {name: table for name, table in Base.metadata.tables.items() if "uid" not in table.c}


def links(table: Table) -> list[Link]:
    """Return the columns of a table that hold a run's id, in their order."""
    tables = _run_tables()
    return [
        Link(column, key.column.table)
        for column in table.c
        for key in column.foreign_keys
        if key.column.name == "id" and key.column.table.name in tables
    ]


def owners(part: Table) -> list[Link]:
    """Return the runs that a part belongs to: those in its primary key.

    The first is the one that it travels with: a metric with its model, not with its data set.
    """
    return [link for link in links(part) if link.column.primary_key]


def children(run: Table) -> list[Table]:
    """Return the parts that travel with a run of this table."""
    return [part for part in parts().values() if owners(part)[0].run is run]


@cache
def needs() -> list[Need]:
    """Return all that runs need of runs."""
    found = [
        Need(table, table.c.id, link.run, link.column)
        for table in _run_tables().values()
        for link in links(table)
    ]
    for part in parts().values():
        belongs = owners(part)
        found += [
            Need(owner.run, owner.column, link.run, link.column)
            for owner in belongs
            for link in links(part)
            if link not in belongs
        ]
    return found


def conditions(table: Table, ids: Mapping[str, Collection[int]]) -> Iterator[tuple[Column[int], list[int]]]:
    """Yield columns, and batches of their values, that select the rows of some runs."""
    keys = [Link(table.c.id, table)] if table.name in _run_tables() else owners(table)
    for link in keys:
        for batch in batches(ids.get(link.run.name, ())):
            yield link.column, batch


def batches(ids: Iterable[int]) -> Iterator[list[int]]:
    """Yield ids in batches, the newest first: what was made from a run is newer than the run."""
    ordered = sorted(ids, reverse=True)
    for start in range(0, len(ordered), MOST_BOUND):
        yield ordered[start : start + MOST_BOUND]


@cache
def _run_tables() -> dict[str, Table]:
    return {table.name: table for table in Base.metadata.sorted_tables if "uid" in table.c}
