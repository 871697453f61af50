"""Sources of rows and files: another store; an export in :mod:`~jsdelta_db.exchange.export_source`."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

from sqlalchemy import ColumnElement, Connection, DateTime, RowMapping, select

from jsdelta_db.errors import StoreError
from jsdelta_db.exchange.contents import Contents
from jsdelta_db.exchange.tables import Batch, PortableTable, Row, children_of, portable_tables, run_tables
from jsdelta_db.store.schema import FINISHED

SUFFIXES = (".pt", ".npy", ".npz")  # of files that rows name: none that Python or a shell would run
BATCH_ROWS = 5000  # in memory at a time, and in one transaction


class Source(Protocol):
    """Finished runs, the rows that belong to them, and their files.

    Attributes:
        title: name for people, without a password.
        has_files: whether it has the files that rows name.
        left_out: how many unfinished runs it leaves out.
    """

    title: str
    has_files: bool
    left_out: int

    def runs(self, table: PortableTable) -> list[Row]:
        """Return the rows of a run table, in an order that puts parents first."""

    def rows_of(self, table: PortableTable, uid: str) -> Iterator[Batch]:
        """Yield the rows that belong to a run, a few thousand at a time; values in the table's order."""

    def locate(self, uri: str) -> Path:
        """Return the path of a file."""

    def check(self, tables: Sequence[PortableTable], *, with_files: bool) -> None:
        """Refuse a source that is not whole, before these tables of it are used."""


class StoreSource:
    """A store, in one snapshot; only finished runs are seen."""

    def __init__(self, connection: Connection, title: str, root: Path) -> None:
        self.title, self.has_files, self.left_out = title, True, 0
        self._connection, self._root = connection, root
        self._runs: dict[str, list[Row]] = {}
        self._uids: dict[str, dict[int, str]] = {}
        self._ids: dict[str, dict[str, int]] = {}
        for table in run_tables():
            self._read_runs(table)

    def _read_runs(self, table: PortableTable) -> None:
        uids: dict[int, str] = {}
        self._uids[table.name], self._runs[table.name] = uids, []
        statement = select(table.table).order_by(table.table.c.id)
        for found in self._connection.execute(statement).mappings():
            row = self._portable(table, found)
            if row is None:
                self.left_out += 1
                continue
            uids[found["id"]] = row["uid"]
            self._runs[table.name].append(row)
        self._ids[table.name] = {uid: key for key, uid in uids.items()}

    def _portable(self, table: PortableTable, found: RowMapping) -> Row | None:
        """Return a run's portable row; None if it or a parent of it is not finished."""
        if found["finished_at"] is None or found.get("status", FINISHED) != FINISHED:
            return None
        row = {}
        for each in table.columns:
            value = found[each.column.name]
            if each.parent is not None and value is not None:
                value = self._uids[each.parent].get(value)
                if value is None:
                    return None
            elif isinstance(each.column.type, DateTime) and value is not None:
                value = _in_utc(value)
            row[each.name] = value
        return row

    def runs(self, table: PortableTable) -> list[Row]:
        """Return the finished runs, oldest first."""
        return self._runs[table.name]

    def rows_of(self, table: PortableTable, uid: str) -> Iterator[Batch]:
        """Yield a run's rows in the order of their key."""
        parents = [(place, each.parent) for place, each in enumerate(table.columns) if each.parent]
        statement = (
            select(*(each.column for each in table.columns))
            .where(self._belongs(table, uid))
            .order_by(*table.table.primary_key)
        )
        rows = self._connection.execute(statement, execution_options={"yield_per": BATCH_ROWS})
        for part in rows.partitions(BATCH_ROWS):
            yield [self._with_uids(table, row, parents) for row in part]

    def _with_uids(self, table: PortableTable, row: Any, parents: list[tuple[int, str]]) -> tuple[Any, ...]:  # noqa: ANN401 a database's row
        values = list(row)
        for place, parent in parents:
            if values[place] is not None:
                uid = self._uids[parent].get(values[place])
                if uid is None:
                    raise StoreError(
                        f"{self.title}: a row of {table.name} names a {parent} that is not finished; "
                        "see jsdelta db check"
                    )
                values[place] = uid
        return tuple(values)

    def locate(self, uri: str) -> Path:
        """Return the path of a file in the workspace."""
        return self._root / uri

    def check(self, tables: Sequence[PortableTable], *, with_files: bool) -> None:
        """Check that paths lie in the workspace, values can be, rows fit each other, and files exist."""
        self._check_uris()
        contents = Contents(self.title, self.runs, tables)
        for table in tables:
            for child in children_of(table):
                for row in self.runs(table):
                    for rows in self.rows_of(child, row["uid"]):
                        contents.add(child, row["uid"], rows)
        contents.finish()
        for uri in list_files(self) if with_files else ():
            if not self.locate(uri).is_file():
                raise StoreError(
                    f"file {self.locate(uri)} is missing; see jsdelta db check, or leave all files out by "
                    "--no-files"
                )

    def _check_uris(self) -> None:
        for run in run_tables():
            for row in self.runs(run):
                for name in run.folders:
                    check_uri(self.title, row[name], is_file=False)
        for uri in list_files(self):
            check_uri(self.title, uri)

    def _belongs(self, table: PortableTable, uid: str) -> ColumnElement[bool]:
        return table.owner_column == self._ids[table.owner_table.name][uid]


def _in_utc(value: datetime) -> datetime:
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)  # SQLite has no zones


def planned_rows(source: Source) -> dict[tuple[str, str], int]:
    """Return how many samples or scores belong to each run that has any, by table and uid."""
    attacks, evaluations = portable_tables()["attack"], portable_tables()["evaluation"]
    planned = {("attack", row["uid"]): int(row["n_attempts"]) for row in source.runs(attacks)}
    return planned | {
        ("evaluation", row["uid"]): planned["attack", row["attack_uid"]] for row in source.runs(evaluations)
    }


def list_files(source: Source) -> dict[str, str]:
    """Return the sha256 of every file that rows name, by its path in the workspace."""
    files: dict[str, str] = {}
    for run in run_tables():
        children = [table for table in children_of(run) if table.files]
        for row in source.runs(run):
            pairs = [(row[uri], row[sha256]) for uri, sha256 in run.files]
            pairs += [pair for child in children for pair in files_of(source, child, row["uid"])]
            files.update((uri, sha256) for uri, sha256 in pairs if uri is not None)
    return files


def files_of(source: Source, table: PortableTable, uid: str) -> Iterator[tuple[str, str]]:
    """Yield path and sha256 of the files that a run's rows name."""
    places = [(table.names.index(uri), table.names.index(sha256)) for uri, sha256 in table.files]
    for batch in source.rows_of(table, uid):
        yield from ((row[uri], row[sha256]) for row in batch for uri, sha256 in places)


def check_uri(where: Path | str, uri: str | None, *, is_file: bool = True) -> None:
    """Refuse a path outside the workspace, or of a file that is no data.

    An import must not write where a folder of Python files would run as code.

    Raises:
        StoreError: names the path.
    """
    if uri is None:
        return
    path = PurePosixPath(uri)
    outside = path.is_absolute() or not path.parts or any(part.startswith(".") for part in path.parts)
    if outside or set("\\\0") & set(uri) or (is_file and path.suffix not in SUFFIXES):
        raise StoreError(
            f"{where} names {uri!r}: must be paths inside the workspace"
            + (f" that end in {', '.join(SUFFIXES)}" if is_file else "")
        )
