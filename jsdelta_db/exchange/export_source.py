"""Export as a source: checked as a whole before a row of it is used."""

import re
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from jsdelta_db.errors import StoreError
from jsdelta_db.exchange.contents import Contents
from jsdelta_db.exchange.manifest import FILES, Manifest, read_manifest, table_path
from jsdelta_db.exchange.parquet import read_parquet, read_runs
from jsdelta_db.exchange.revisions import added_since
from jsdelta_db.exchange.source import check_uri, list_files
from jsdelta_db.exchange.tables import Batch, PortableTable, Row, portable_tables, run_tables
from jsdelta_db.runtime.files import sha256_of_file
from jsdelta_db.store.schema import FINISHED

UID = re.compile(r"[0-9a-f]{16}")


class FolderSource:
    """An export; each table is read once, front to back, so rows of runs must be read in the runs' order."""

    def __init__(self, folder: Path) -> None:
        self.title, self.left_out = f"export {folder}", 0
        self._folder = folder
        self._manifest: Manifest = read_manifest(folder)
        self.has_files = self._manifest.files is not None
        self._runs: dict[str, list[Row]] = {}
        self._places: dict[str, dict[str, int]] = {}
        self._readers: dict[str, _Reader] = {}

    def runs(self, table: PortableTable) -> list[Row]:
        """Return the rows of a run table as they were written."""
        if table.name not in self._runs:
            path = table_path(self._folder, table.name)
            self._runs[table.name] = read_runs(path, table, self._added(table))
            self._places[table.name] = {row["uid"]: n for n, row in enumerate(self._runs[table.name])}
        return self._runs[table.name]

    def rows_of(self, table: PortableTable, uid: str) -> Iterator[Batch]:
        """Yield a run's rows as they were written."""
        places = self._places_of(table)
        reader = self._readers.get(table.name)
        if reader is None or reader.is_past(uid):
            reader = _Reader(self._read(table), places)
            self._readers[table.name] = reader
        yield from reader.rows_of(uid)

    def _read(self, table: PortableTable) -> Iterator[Batch]:
        return read_parquet(table_path(self._folder, table.name), table, self._added(table))

    def _added(self, table: PortableTable) -> dict[str, Any]:
        return added_since(self._manifest.revision, table.name)

    def _places_of(self, table: PortableTable) -> dict[str, int]:
        """Return the places of the runs that a table's rows belong to, by uid."""
        self.runs(table.owner_table)
        return self._places[table.owner_table.name]

    def locate(self, uri: str) -> Path:
        """Return the path of a file in the export."""
        return self._folder / FILES / uri

    def check(self, tables: Sequence[PortableTable], *, with_files: bool) -> None:
        """Check all tables against the manifest and each other.

        Args:
            tables: ignored: all of them are checked.

        Raises:
            StoreError: names the first mismatch.
        """
        del tables
        for name, facts in self._manifest.tables.items():
            path = table_path(self._folder, name)
            if sha256_of_file(path) != facts.sha256:
                raise StoreError(f"{path} is missing or altered; export again")
        known: dict[str, set[str]] = {}
        for table in run_tables():
            known[table.name] = set()
            for row in self.runs(table):
                self._check_run(table, row, known)
        counts = self._check_children(known)
        for name, facts in self._manifest.tables.items():
            if counts[name] != facts.rows:
                path = table_path(self._folder, name)
                raise StoreError(
                    f"{path} has {counts[name]} rows, the manifest says {facts.rows}; export again"
                )
        self._check_files(with_files=with_files)

    def _check_run(self, table: PortableTable, row: Row, known: dict[str, set[str]]) -> None:
        path, uid = table_path(self._folder, table.name), row["uid"]
        if not UID.fullmatch(uid) or uid in known[table.name]:
            raise StoreError(f"{path}: uid {uid!r} is not 16 hex digits, or is there twice")
        if row.get("status", FINISHED) != FINISHED:
            raise StoreError(f"{path}: {uid} is {row['status']}; only what is {FINISHED} travels")
        for each in table.columns:
            if each.parent and row[each.name] is not None and row[each.name] not in known[each.parent]:
                raise StoreError(f"{path}: {uid} names a {each.parent} that is not there ({row[each.name]})")
        for name in table.folders:
            check_uri(path, row[name], is_file=False)
        for uri, _ in table.files:
            check_uri(path, row[uri])
        known[table.name].add(uid)

    def _check_children(self, known: dict[str, set[str]]) -> dict[str, int]:
        """Check every row that belongs to a run; return how many rows each table has."""
        counts: dict[str, int] = {}
        contents = Contents(self.title, self.runs, run_tables())
        for table in portable_tables().values():
            if table.is_run:
                counts[table.name] = len(self.runs(table))
                continue
            counts[table.name] = 0
            for uid, rows in self._groups(table):
                counts[table.name] += len(rows)
                self._check_rows(table, rows, known)
                contents.add(table, uid, rows)
        contents.finish()
        return counts

    def _groups(self, table: PortableTable) -> Iterator[tuple[str, Batch]]:
        """Yield the rows of a table by the run that they belong to.

        Raises:
            StoreError: a run that is not there, or runs in another order than their own table's.
        """
        places, path, last = self._places_of(table), table_path(self._folder, table.name), -1
        for batch in self._read(table):
            for uid, group in groupby(batch, key=lambda row: str(row[0])):
                if places.get(uid, -1) < last or uid not in places:
                    raise StoreError(
                        f"{path}: rows of {table.owner} {uid} are out of order, or it is not there"
                    )
                last = places[uid]
                yield uid, list(group)

    def _check_rows(self, table: PortableTable, rows: Batch, known: dict[str, set[str]]) -> None:
        path = table_path(self._folder, table.name)
        for place, each in enumerate(table.columns):
            if each.parent is not None:
                for uid in {row[place] for row in rows} - known[each.parent] - {None}:
                    raise StoreError(f"{path}: a row names a {each.parent} that is not there ({uid})")
            elif each.name == "status" and {row[place] for row in rows} != {FINISHED}:
                raise StoreError(f"{path}: only what is {FINISHED} travels")
            elif each.name in (uri for uri, _ in table.files):
                for row in rows:
                    check_uri(path, row[place])

    def _check_files(self, *, with_files: bool) -> None:
        files = list_files(self)
        if self._manifest.files not in (None, len(files)):
            raise StoreError(
                f"{self.title}: rows name {len(files)} files, the manifest says {self._manifest.files}; "
                "export again"
            )
        for uri, sha256 in files.items() if with_files and self.has_files else ():
            if sha256_of_file(self.locate(uri)) != sha256:
                raise StoreError(f"{self.locate(uri)} is missing or altered; export again")


class _Reader:
    """A table's rows from front to back, handed out run by run."""

    def __init__(self, batches: Iterator[Batch], places: dict[str, int]) -> None:
        self._batches, self._places = batches, places
        self._rest: Batch = []
        self._reached = -1

    def is_past(self, uid: str) -> bool:
        """Return whether a run's rows were passed already."""
        return self._places[uid] <= self._reached

    def rows_of(self, uid: str) -> Iterator[Batch]:
        """Yield a run's rows, skipping those of runs before it."""
        place = self._reached = self._places[uid]
        while True:
            rows, self._rest = self._rest or next(self._batches, []), []
            if not rows:
                return
            if self._places[rows[-1][0]] < place:
                continue
            mine = [row for row in rows if row[0] == uid]
            self._rest = [row for row in rows if self._places[row[0]] > place]
            if mine:
                yield mine
            if self._rest:
                return
