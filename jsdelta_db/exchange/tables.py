"""Portable tables, derived from the schema: a parent is named by its uid, and local columns are left out.

A *run* is a row with a uid (data set, model, ensemble, attack, evaluation); every other row belongs to one,
the parent that its primary key begins with. A table that is added to the schema travels without any change
here, unless it is listed in ``DERIVED``: those are computed again from the others.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from sqlalchemy import Column, Float, Table

from jsdelta_db.store import relations
from jsdelta_db.store.schema import DERIVED

LOCAL = ("id", "mlflow_run_id", "owner", "heartbeat_at")  # mean nothing in another store
# Columns that hold an array each.
PACKED = {"member_js": "<f4", "js_of_mean_without": "<f4", "image_means": "<f8", "rho_of_mean_without": "<f8"}

Row = dict[str, Any]
Batch = list[tuple[Any, ...]]


@dataclass(frozen=True, slots=True)
class PortableColumn:
    """A column; one that names a row of ``parent`` holds its uid, and its name ends in ``_uid``."""

    name: str
    column: Column[Any]
    parent: str | None


@dataclass(frozen=True, slots=True)
class PortableTable:
    """A table's portable columns.

    Attributes:
        owner: the run table that its rows belong to; None for a run table itself.
        children: of a run table, the tables whose rows belong to it.
        files: pairs of columns, a path in the workspace and the sha256 of the file there.
        is_leased: whether processes claim its rows.
    """

    name: str
    table: Table
    columns: Sequence[PortableColumn]
    owner: str | None
    children: Sequence[str]
    files: Sequence[tuple[str, str]]
    is_leased: bool

    @property
    def names(self) -> list[str]:
        """The columns' names as they travel."""
        return [each.name for each in self.columns]

    @property
    def is_run(self) -> bool:
        """Whether its rows have a uid."""
        return self.owner is None

    @property
    def owner_table(self) -> "PortableTable":
        """The run table that its rows belong to."""
        assert self.owner is not None
        return portable_tables()[self.owner]

    @property
    def owner_column(self) -> Column[Any]:
        """The column that holds the id of the run that a row belongs to."""
        return self.columns[0].column

    @property
    def is_bulk(self) -> bool:
        """Whether it has a row per sample."""
        return "sample_index" in self.table.columns

    @property
    def folders(self) -> list[str]:
        """Columns that name a folder of the workspace."""
        named = {uri for uri, _ in self.files}
        return [each.name for each in self.columns if each.name.endswith("uri") and each.name not in named]

    @property
    def measurements(self) -> list[str]:
        """Columns that are filled on request, such as a model's sharpness."""
        return [each.name for each in self.columns if each.column.nullable and is_float(each.column)]


def is_float(column: Column[Any]) -> bool:
    """Whether a column holds floating-point numbers."""
    return isinstance(column.type, Float)


@cache
def portable_tables() -> dict[str, PortableTable]:
    """Return the tables that travel, each run table before those that point to it, its children behind it."""
    derived = {each.__tablename__ for each in DERIVED}
    found: dict[str, PortableTable] = {}
    for name, run in relations.runs().items():
        children = [part for part in relations.children(run) if part.name not in derived]
        found[name] = _describe(run, None, [part.name for part in children])
        found |= {part.name: _describe(part, name, []) for part in children}
    return found


def run_tables() -> list[PortableTable]:
    """Return the tables whose rows have a uid, parents first."""
    return [table for table in portable_tables().values() if table.is_run]


def children_of(table: PortableTable) -> list[PortableTable]:
    """Return the tables whose rows belong to a run table's."""
    return [portable_tables()[name] for name in table.children]


def definitions() -> list[PortableTable]:
    """Return the run tables that do not depend on attacks: those that an attack starts from."""
    found: list[PortableTable] = []
    for table in run_tables():
        parents = {each.parent for each in table.columns if each.parent} - {table.name}
        if table.name != "attack" and parents <= {each.name for each in found}:
            found.append(table)
    return found


def _describe(table: Table, owner: str | None, children: Sequence[str]) -> PortableTable:
    parents = {link.column.name: link.run.name for link in relations.links(table)}
    columns = [
        PortableColumn(_portable_name(column.name, parents), column, parents.get(column.name))
        for column in table.columns
        if column.name not in LOCAL
    ]
    if owner is not None:  # rows are grouped by their owner: its uid comes first
        columns.sort(key=lambda each: each.parent != owner)
    uris = [column.name for column in table.columns if column.name.endswith("uri")]
    pairs = [(name, name.replace("uri", "sha256")) for name in uris]
    return PortableTable(
        table.name, table, columns, owner, children,
        [pair for pair in pairs if pair[1] in table.columns], "owner" in table.columns,
    )  # fmt: skip


def _portable_name(name: str, parents: dict[str, str]) -> str:
    return f"{name.removesuffix('_id')}_uid" if name in parents else name
