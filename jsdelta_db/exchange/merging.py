"""Runs of a source merged into a store, one after the other.

A run's walk: its row and its chunks are entered, unfinished and claimed → its files are copied → its rows
follow, a few thousand in a transaction, so that nobody waits for long → they are counted against the plan
→ its last transaction says that it is finished. A call that was killed is repeated: what is finished is
passed over, rows that are there stay.
"""

import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, func, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from jsdelta_db.errors import StoreError
from jsdelta_db.exchange.conflicts import (
    Here,
    Pair,
    files_here,
    find_here,
    is_named_otherwise,
    leased_children,
    make_room,
    owner_column,
    refuse_conflicts,
)
from jsdelta_db.exchange.source import Source, planned_rows
from jsdelta_db.exchange.tables import Batch, PortableTable, Row, portable_tables, run_tables
from jsdelta_db.runtime.files import copy_verified, sha256_of_file
from jsdelta_db.runtime.leases import current_owner
from jsdelta_db.runtime.progress import Task
from jsdelta_db.store import runs
from jsdelta_db.store.attempts import MOST_IMAGES
from jsdelta_db.store.derived import write_segments
from jsdelta_db.store.inserting import insert_rows
from jsdelta_db.store.schema import FINISHED, LEASED, PENDING, RUNNING, Attack, Base, Dataset, Sample, Score
from jsdelta_db.workbench.workbench import Workbench

CLASSES: dict[str, type[Any]] = {
    mapper.class_.__tablename__: mapper.class_ for mapper in Base.registry.mappers
}


@dataclass(slots=True)
class Imported:
    """What an import brought: runs found and new ones by table, files, and unfinished runs passed over."""

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
    """Merge some run tables of a source that was checked, and what belongs to them.

    Raises:
        StoreError: something cannot be merged.
    """
    with bench.store.reading() as connection:
        refuse_conflicts(connection, source, tables)
        here = {table.name: find_here(connection, table) for table in run_tables()}
    planned = planned_rows(source)
    total = sum(
        1 + planned.get((table.name, row["uid"]), 0) for table in tables for row in source.runs(table)
    )
    try:
        with bench.progress.task(label, total) as advance:
            merger = _Merger(bench, source, here, advance, with_files=with_files and source.has_files)
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


class _Merger:
    """One import under way: what is here by uid, and what was done so far."""

    def __init__(
        self,
        bench: Workbench,
        source: Source,
        here: dict[str, dict[str, Here]],
        advance: Task,
        *,
        with_files: bool,
    ) -> None:
        self.outcome = Imported(left_out=source.left_out)
        self._bench, self._source, self._here, self._advance = bench, source, here, advance
        self._ids = {name: {uid: each.id for uid, each in rows.items()} for name, rows in here.items()}
        self._planned = planned_rows(source)
        self._with_files = with_files

    def merge(self, table: PortableTable, row: Row) -> None:
        """Bring one run, or what is new of one that is here."""
        found = self._here[table.name].get(row["uid"])
        self.outcome.found[table.name] += 1
        if found is not None and found.is_finished:
            self._complete(table, row, found)
            self._advance(1 + self._planned.get((table.name, row["uid"]), 0))
            return
        self.outcome.new[table.name] += 1
        chunks = {child.name: self._chunks(child, row["uid"]) for child in leased_children(table)}
        run_id = self._ids[table.name][row["uid"]] = self._begin(table, row, chunks)
        self._bring((row[uri], row[sha256]) for uri, sha256 in table.files)
        for found_chunks in chunks.values():
            self._bring((chunk["uri"], chunk["sha256"]) for chunk in found_chunks)
        for child in self._children(table, is_leased=False):
            self._enter(child, row["uid"], run_id)
        self._check_counts(table, row, run_id)
        self._finish(table, row, run_id, chunks)
        self._advance()

    def _children(self, table: PortableTable, *, is_leased: bool) -> list[PortableTable]:
        children = [portable_tables()[name] for name in table.children]
        return [child for child in children if child.is_leased == is_leased]

    def _chunks(self, child: PortableTable, uid: str) -> list[Row]:
        return [
            dict(zip(child.names, row, strict=True))
            for batch in self._source.rows_of(child, uid)
            for row in batch
        ]

    def _complete(self, table: PortableTable, row: Row, found: Here) -> None:
        """Add to a finished run what was measured of it elsewhere, and lost files; all else stays."""
        self._bring(
            pair for pair in found.files if pair in [(row[uri], row[sha]) for uri, sha in table.files]
        )
        missing = {name: row[name] for name in table.measurements if row[name] is not None}
        if missing:
            with self._bench.store.transaction() as session:
                stored = session.get_one(CLASSES[table.name], found.id)
                for name, value in missing.items():
                    if getattr(stored, name) is None:
                        setattr(stored, name, value)
        for child in leased_children(table):
            with self._bench.store.reading() as connection:
                named = files_here(connection, child, found.id)
            pairs = [(chunk["uri"], chunk["sha256"]) for chunk in self._chunks(child, row["uid"])]
            self._bring(pair for pair in pairs if pair in named)
        for child in self._children(table, is_leased=False):
            if not child.is_bulk:
                self._enter(child, row["uid"], found.id)

    def _begin(self, table: PortableTable, row: Row, chunks: dict[str, list[Row]]) -> int:
        """Enter a run as unfinished, its chunks as ours."""
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
                make_room(
                    session, table, row["uid"], stored.id, [each for part in chunks.values() for each in part]
                )
            if "status" in table.names:
                stored.status = PENDING
            if entity in LEASED:
                runs.take(stored)
            for name, found in chunks.items():
                self._claim(session, portable_tables()[name], stored.id, found)
            return int(stored.id)

    def _claim(self, session: Session, child: PortableTable, run_id: int, chunks: list[Row]) -> None:
        owner = owner_column(child)
        rows = [(run_id, chunk["position"], chunk["n_attempts"], PENDING) for chunk in chunks]
        insert_rows(session, CLASSES[child.name], (owner.name, "position", "n_attempts", "status"), rows)
        columns = child.table.c
        session.execute(
            update(child.table)
            .where(owner == run_id, columns.status != FINISHED)
            .values(status=RUNNING, owner=current_owner(), heartbeat_at=time.time())
        )

    def _values(self, table: PortableTable, row: Row) -> dict[str, Any]:
        """Return a run's columns here; those without a value are left out."""
        values = {}
        for each in table.columns:
            value = row[each.name]
            if value is not None:
                values[each.column.name] = self._ids[each.parent][value] if each.parent else value
        return values

    def _enter(self, child: PortableTable, uid: str, run_id: int) -> None:
        """Bring the rows that belong to a run; files come before the rows that name them."""
        parents = [(place, self._ids[each.parent]) for place, each in enumerate(child.columns) if each.parent]
        names = [each.column.name for each in child.columns]
        for batch in self._source.rows_of(child, uid):
            rows = [_with_ids(row, parents) for row in batch]
            if child.files:
                self._bring(self._wanted(child, rows, run_id))
            with self._bench.store.transaction() as session:
                insert_rows(session, CLASSES[child.name], names, rows)
            if child.is_bulk:
                self._advance(len(rows))

    def _wanted(self, child: PortableTable, rows: Batch, run_id: int) -> list[Pair]:
        """Return the files of rows that are new, or here and the same."""
        ((uri, sha256),) = child.files
        names = [each.column.name for each in child.columns]
        keys = [column.name for column in child.table.primary_key]
        with self._bench.store.reading() as connection:
            found = connection.execute(select(child.table).where(owner_column(child) == run_id)).mappings()
            here = {tuple(row[key] for key in keys): (row[uri], row[sha256]) for row in found}
        wanted = []
        for values in rows:
            row = dict(zip(names, values, strict=True))
            pair = (row[uri], row[sha256])
            if here.get(tuple(row[key] for key in keys), pair) == pair:
                wanted.append(pair)
        return wanted

    def _bring(self, pairs: Iterable[tuple[str | None, str | None]]) -> None:
        """Copy files that are not here, or not whole.

        Raises:
            StoreError: a row here says that another file is at such a path.
        """
        for uri, sha256 in pairs if self._with_files else ():
            if uri is None or sha256 is None:
                continue
            target = self._bench.locate(uri)
            if sha256_of_file(target) == sha256:
                continue
            with self._bench.store.reading() as connection:
                if is_named_otherwise(connection, uri, sha256):
                    raise StoreError(
                        f"file {target} belongs to another row here than in {self._source.title}; "
                        "import into a store of its own: jsdelta --workspace FOLDER db import …"
                    )
            copy_verified(self._source.locate(uri), target, sha256)
            self.outcome.files += 1

    def _check_counts(self, table: PortableTable, row: Row, run_id: int) -> None:
        """Count a run's samples or scores, and whether those belong to these.

        Raises:
            StoreError: they are not as many as planned.
        """
        planned = self._planned.get((table.name, row["uid"]))
        if planned is None:
            return
        with self._bench.store.reading() as connection:
            if table.name == "attack":
                self._check_ranges(connection, row, run_id)
                counts = [connection.scalar(select(func.count()).where(Sample.attack_id == run_id))]
            else:
                mine = Score.evaluation_id == run_id
                together = (Sample.sample_index == Score.sample_index) & (
                    Sample.requested_target == Score.requested_target
                )
                joined = select(func.count()).select_from(Score).join(Sample, together)
                attack_id = self._ids["attack"][row["attack_uid"]]
                counts = [
                    connection.scalar(select(func.count()).where(mine)),
                    connection.scalar(joined.where(mine, Sample.attack_id == attack_id)),
                ]
        if set(counts) != {planned}:
            raise StoreError(
                f"{table.name} {row['uid']} has {counts[-1]} of {planned} rows planned; "
                "it stays unfinished here"
            )

    def _check_ranges(self, connection: Connection, row: Row, run_id: int) -> None:
        """Look whether samples name images and labels that there can be.

        Raises:
            StoreError: they do not; the attack stays unfinished.
        """
        classes = connection.scalar(select(Dataset.classes).join(Attack).where(Attack.id == run_id)) or []
        labels = (Sample.source_label, Sample.target_label)
        bounds = [*((label, 0, len(classes)) for label in labels), (Sample.sample_index, 0, MOST_IMAGES)]
        for column, low, end in bounds:
            ends = select(func.min(column), func.max(column)).where(Sample.attack_id == run_id)
            smallest, largest = connection.execute(ends).one()
            if smallest is not None and not low <= smallest <= largest < end:
                wrong = smallest if smallest < low else largest
                raise StoreError(
                    f"attack {row['uid']}: {column.key} {wrong} is not valid: must be {low} to {end - 1}"
                )

    def _finish(self, table: PortableTable, row: Row, run_id: int, chunks: dict[str, list[Row]]) -> None:
        """Say that a run is finished; from now on it is seen."""
        with self._bench.store.transaction() as session:
            stored = session.get_one(CLASSES[table.name], run_id)
            for name, value in self._values(table, row).items():
                setattr(stored, name, value)
            if "status" in table.names:
                runs.leave(stored, FINISHED)
            for name, found in chunks.items():
                child = portable_tables()[name]
                for chunk in found:
                    session.execute(
                        update(child.table)
                        .where(owner_column(child) == run_id, child.table.c.position == chunk["position"])
                        .values(
                            status=FINISHED,
                            owner=None,
                            heartbeat_at=None,
                            uri=chunk["uri"],
                            sha256=chunk["sha256"],
                        )
                    )
            session.flush()
            if table.name == "evaluation":
                write_segments(session, run_id)


def _with_ids(row: tuple[Any, ...], parents: Sequence[tuple[int, dict[str, int]]]) -> tuple[Any, ...]:
    values = list(row)
    for place, ids in parents:
        if values[place] is not None:
            values[place] = ids[values[place]]
    return tuple(values)
