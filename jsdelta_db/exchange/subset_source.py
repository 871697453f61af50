"""Subset of a source: some of its runs, and those that they depend on."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from jsdelta_db.exchange.source import Source
from jsdelta_db.exchange.tables import Batch, PortableTable, Row, children_of, run_tables


class NeededSource:
    """A source reduced to some runs and those that they depend on.

    Args:
        roots: uids of these runs, by table; all attacks and evaluations if None.
    """

    def __init__(self, source: Source, roots: Mapping[str, set[str]] | None = None) -> None:
        self.title, self.has_files, self.left_out = source.title, source.has_files, source.left_out
        self._source = source
        if roots is None:
            tables = [table for table in run_tables() if table.name in ("attack", "evaluation")]
            roots = {table.name: {row["uid"] for row in source.runs(table)} for table in tables}
        self._needed: dict[str, set[str]] = {
            table.name: set(roots.get(table.name, ())) for table in run_tables()
        }
        for table in reversed(run_tables()):
            for row in reversed(source.runs(table)):  # a data set's parent stands before it
                if row["uid"] in self._needed[table.name]:
                    self._need(table, row)

    def _need(self, table: PortableTable, row: Row) -> None:
        self._need_parents(table, [tuple(row[name] for name in table.names)])
        for child in children_of(table):
            if not child.is_bulk and any(each.parent for each in child.columns[1:]):
                for batch in self._source.rows_of(child, row["uid"]):
                    self._need_parents(child, batch)

    def _need_parents(self, table: PortableTable, rows: Batch) -> None:
        for place, each in enumerate(table.columns):
            if each.parent is not None:
                self._needed[each.parent] |= {row[place] for row in rows if row[place] is not None}

    def runs(self, table: PortableTable) -> list[Row]:
        """Return the needed rows of a run table."""
        return [row for row in self._source.runs(table) if row["uid"] in self._needed[table.name]]

    def rows_of(self, table: PortableTable, uid: str) -> Iterator[Batch]:
        """Yield a run's rows."""
        return self._source.rows_of(table, uid)

    def locate(self, uri: str) -> Path:
        """Return the path of a file."""
        return self._source.locate(uri)

    def check(self, tables: Sequence[PortableTable], *, with_files: bool) -> None:
        """Refuse a source that is not whole."""
        self._source.check(tables, with_files=with_files)
