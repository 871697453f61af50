"""Merging of a source's runs into a store, one after the other.

Steps of a run: its row and its chunks are inserted, unfinished and claimed → its files are copied → its
rows follow, a few thousand in a transaction, so that no other writer waits for long → they are counted
against the plan → its last transaction marks it as finished, and only then do queries see it. A call that
was killed is repeated: finished runs are passed over, rows that are stored stay. Files come before the rows
that name them, and none is read or copied inside a write transaction.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from jsdelta_db.config.names import LONGEST_NAME, check_text
from jsdelta_db.errors import StoreError, UsageError
from jsdelta_db.exchange.completeness import check_attack, check_evaluation
from jsdelta_db.exchange.conflicts import (
    Pair,
    StoredRun,
    clear_conflicting,
    find_stored,
    leased_children,
    refuse_conflicts,
    stored_files,
)
from jsdelta_db.exchange.copying import copy_files, find_missing
from jsdelta_db.exchange.source import Source, planned_rows
from jsdelta_db.exchange.tables import Batch, PortableTable, Row, children_of, portable_tables, run_tables
from jsdelta_db.runtime.leases import current_owner
from jsdelta_db.runtime.progress import Task
from jsdelta_db.store import runs
from jsdelta_db.store.clock import read_clock
from jsdelta_db.store.derived import write_segments
from jsdelta_db.store.inserting import insert_rows
from jsdelta_db.store.schema import FINISHED, LEASED, PENDING, RUNNING, Base
from jsdelta_db.workbench.workbench import Workbench

CLASSES: dict[str, type[Any]] = {
    mapper.class_.__tablename__: mapper.class_ for mapper in Base.registry.mappers
}
# Columns that people or other tools filled.
TEXTS, LONGEST_TEXT = ("architecture", "recipe_name", "method", "library", "library_version"), 1_000
Chunks = Mapping[str, Sequence[Row]]  # a run's, by their table


@dataclass(slots=True)
class Imported:
    """Outcome of an import: runs found and new ones by table, copied files, unfinished runs left out."""

    found: Counter[str] = field(default_factory=Counter)
    new: Counter[str] = field(default_factory=Counter)
    files: int = 0
    left_out: int = 0


def merge(
    bench: Workbench,
    source: Source,
    tables: Sequence[PortableTable],
    *,
    with_files: bool = True,
    label: str = "import",
) -> Imported:
    """Merge some run tables of a source that was checked, and the rows that belong to them.

    Raises:
        StoreError: something cannot be merged.
    """
    _check_texts(source, tables)
    with bench.store.reading() as connection:
        refuse_conflicts(connection, source, tables)
        stored = {table.name: find_stored(connection, table) for table in run_tables()}
    planned = planned_rows(source)
    total = sum(
        1 + planned.get((table.name, row["uid"]), 0) for table in tables for row in source.runs(table)
    )
    try:
        with bench.progress.task(label, total) as advance:
            merger = _Merger(bench, source, stored, advance, with_files=with_files and source.has_files)
            for table in tables:
                for row in source.runs(table):
                    merger.merge(table, row)
    except IntegrityError as error:
        reason = str(error.orig).strip().splitlines()[0]
        raise StoreError(
            f"{source.title} holds a row that the store refuses ({reason}); "
            "what is unfinished of it shows in no result"
        ) from error
    return merger.outcome


def _check_texts(source: Source, tables: Iterable[PortableTable]) -> None:
    """Refuse names and other texts that cannot be shown in one line.

    Raises:
        StoreError: names the row; nothing was written.
    """
    for table in tables:
        for row in source.runs(table):
            names = [row.get("name") or "", *(row.get("classes") or ())]
            others = [row.get(column) or "" for column in TEXTS]
            try:
                for longest, texts in ((LONGEST_NAME, names), (LONGEST_TEXT, others)):
                    for each in filter(None, texts):
                        check_text(f"{table.name} {row['uid']} of {source.title}: the text", each, longest)
            except UsageError as error:
                raise StoreError(f"{error}; nothing was imported") from error


class _Merger:
    """One import: this store's runs by uid, and what was merged so far."""

    def __init__(
        self,
        bench: Workbench,
        source: Source,
        stored: dict[str, dict[str, StoredRun]],
        advance: Task,
        *,
        with_files: bool,
    ) -> None:
        self.outcome = Imported(left_out=source.left_out)
        self._bench, self._source, self._stored, self._advance = bench, source, stored, advance
        self._ids = {name: {uid: each.id for uid, each in rows.items()} for name, rows in stored.items()}
        self._planned = planned_rows(source)
        self._with_files = with_files

    def merge(self, table: PortableTable, row: Row) -> None:
        """Merge one run, or the news of one that is finished here."""
        found = self._stored[table.name].get(row["uid"])
        planned = self._planned.get((table.name, row["uid"]))
        chunks = {child.name: self._read_chunks(child, row["uid"]) for child in leased_children(table)}
        self.outcome.found[table.name] += 1
        if found is not None and found.is_finished:
            self._complete(table, row, found, chunks)
            self._advance(1 + (planned or 0))
            return
        self.outcome.new[table.name] += 1
        run_id = self._ids[table.name][row["uid"]] = self._begin(table, row, chunks)
        self._copy((row[uri], row[sha256]) for uri, sha256 in table.files)
        for rows in chunks.values():
            self._copy((chunk["uri"], chunk["sha256"]) for chunk in rows)
        for child in children_of(table):
            if not child.is_leased:
                self._insert(child, row["uid"], run_id)
        if planned is not None:
            check = check_attack if table.name == "attack" else check_evaluation
            with self._bench.store.reading() as connection:
                check(connection, row["uid"], run_id, planned)
        self._finish(table, row, run_id, chunks)
        self._advance()

    def _read_chunks(self, child: PortableTable, uid: str) -> list[Row]:
        batches = self._source.rows_of(child, uid)
        return [dict(zip(child.names, row, strict=True)) for batch in batches for row in batch]

    def _complete(self, table: PortableTable, row: Row, found: StoredRun, chunks: Chunks) -> None:
        """Add measurements and lost files to a finished run; all else stays."""
        files = [(row[uri], row[sha256]) for uri, sha256 in table.files]
        self._copy(pair for pair in found.files if pair in files)
        missing = {name: row[name] for name in table.measurements if row[name] is not None}
        if missing:
            with self._bench.store.transaction() as session:
                stored = session.get_one(CLASSES[table.name], found.id)
                for name, value in missing.items():
                    if getattr(stored, name) is None:
                        setattr(stored, name, value)
        for child in children_of(table):
            if child.is_leased:
                with self._bench.store.reading() as connection:
                    named = stored_files(connection, child, found.id)
                pairs = [(chunk["uri"], chunk["sha256"]) for chunk in chunks[child.name]]
                self._copy(pair for pair in pairs if pair in named)
            elif not child.is_bulk:
                self._insert(child, row["uid"], found.id)

    def _begin(self, table: PortableTable, row: Row, chunks: Chunks) -> int:
        """Insert a run as unfinished, and claim its chunks."""
        entity = CLASSES[table.name]
        with self._bench.store.transaction() as session:
            runs.serialize(session, row["config_hash"])
            runs.serialize(session, f"chunks of {row.get('attack_uid', row['uid'])}")
            stored = session.scalars(select(entity).where(entity.uid == row["uid"])).first()
            if stored is None:
                stored = entity(**self._values(table, row) | {"finished_at": None})
                session.add(stored)
                session.flush()
            else:
                all_chunks = [chunk for rows in chunks.values() for chunk in rows]
                clear_conflicting(session, table, row["uid"], stored.id, all_chunks)
            if "status" in table.names:
                stored.status = PENDING
            if entity in LEASED:
                runs.take(stored, read_clock(session))
            for name, rows in chunks.items():
                _claim(session, portable_tables()[name], stored.id, rows)
            return int(stored.id)

    def _values(self, table: PortableTable, row: Row) -> dict[str, Any]:
        """Return a run's values by this store's columns; those without a value are left out."""
        values = {}
        for each in table.columns:
            value = row[each.name]
            if value is not None:
                values[each.column.name] = self._ids[each.parent][value] if each.parent else value
        return values

    def _insert(self, child: PortableTable, uid: str, run_id: int) -> None:
        """Insert the rows of one table that belong to a run, each batch after the files that it names."""
        parents = [(place, self._ids[each.parent]) for place, each in enumerate(child.columns) if each.parent]
        names = [each.column.name for each in child.columns]
        for batch in self._source.rows_of(child, uid):
            rows = [_with_ids(row, parents) for row in batch]
            if child.files:
                self._copy(self._wanted(child, rows, run_id))
            with self._bench.store.transaction() as session:
                insert_rows(session, CLASSES[child.name], names, rows)
            if child.is_bulk:
                self._advance(len(rows))

    def _wanted(self, child: PortableTable, rows: Batch, run_id: int) -> list[Pair]:
        """Return the files of rows that are new here, or name the same files here."""
        ((uri, sha256),) = child.files
        names = [each.column.name for each in child.columns]
        keys = [column.name for column in child.table.primary_key]
        with self._bench.store.reading() as connection:
            found = connection.execute(select(child.table).where(child.owner_column == run_id)).mappings()
            stored = {tuple(row[key] for key in keys): (row[uri], row[sha256]) for row in found}
        wanted = []
        for values in rows:
            row = dict(zip(names, values, strict=True))
            pair = (row[uri], row[sha256])
            if stored.get(tuple(row[key] for key in keys), pair) == pair:
                wanted.append(pair)
        return wanted

    def _copy(self, pairs: Iterable[tuple[str | None, str | None]]) -> None:
        if self._with_files:
            self.outcome.files += copy_files(self._bench, self._source, find_missing(self._bench, pairs))

    def _finish(self, table: PortableTable, row: Row, run_id: int, chunks: Chunks) -> None:
        """Mark a run as finished, and store an evaluation's attempts as columns, too."""
        with self._bench.store.transaction() as session:
            stored = session.get_one(CLASSES[table.name], run_id)
            for name, value in self._values(table, row).items():
                setattr(stored, name, value)
            if "status" in table.names:
                runs.leave(stored, FINISHED)
            for name, rows in chunks.items():
                _finish_chunks(session, portable_tables()[name], run_id, rows)
            session.flush()
            if table.name == "evaluation":
                write_segments(session, run_id)


def _claim(session: Session, child: PortableTable, run_id: int, chunks: Sequence[Row]) -> None:
    """Insert the chunks that are missing, and claim those that are not finished."""
    owner = child.owner_column
    rows = [(run_id, chunk["position"], chunk["n_attempts"], PENDING) for chunk in chunks]
    insert_rows(session, CLASSES[child.name], (owner.name, "position", "n_attempts", "status"), rows)
    session.execute(
        update(child.table)
        .where(owner == run_id, child.table.c.status != FINISHED)
        .values(status=RUNNING, owner=current_owner(), heartbeat_at=read_clock(session))
    )


def _finish_chunks(session: Session, child: PortableTable, run_id: int, chunks: Sequence[Row]) -> None:
    """Write all that chunks say of how they were made, and release them."""
    released = {"status": FINISHED, "owner": None, "heartbeat_at": None}
    key = {column.name for column in child.table.primary_key}
    for chunk in chunks:
        facts = {name: value for name, value in chunk.items() if name in child.table.c and name not in key}
        session.execute(
            update(child.table)
            .where(child.owner_column == run_id, child.table.c.position == chunk["position"])
            .values(**{**facts, **released})
        )


def _with_ids(row: tuple[Any, ...], parents: Sequence[tuple[int, dict[str, int]]]) -> tuple[Any, ...]:
    values = list(row)
    for place, ids in parents:
        if values[place] is not None:
            values[place] = ids[values[place]]
    return tuple(values)
