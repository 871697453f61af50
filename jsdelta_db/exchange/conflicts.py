"""Conflicts of an import: runs that are stored here already, kept, replaced or refused."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, delete, select
from sqlalchemy.orm import Session

from jsdelta_db.errors import StoreError
from jsdelta_db.exchange.source import Source, files_of
from jsdelta_db.exchange.tables import PortableTable, Row, children_of, portable_tables, run_tables
from jsdelta_db.runtime.leases import describe, is_alive
from jsdelta_db.store.clock import read_clock
from jsdelta_db.store.schema import FINISHED, RUNNING, Evaluation

Pair = tuple[str, str]  # a file's path in the workspace and its sha256


@dataclass(frozen=True, slots=True)
class StoredRun:
    """A run of this store.

    Attributes:
        owner: the process that works on it, if it is alive.
        files: those that its row names.
    """

    id: int
    config_hash: str
    is_finished: bool
    owner: str | None
    files: Sequence[Pair]


def find_stored(connection: Connection, table: PortableTable) -> dict[str, StoredRun]:
    """Return this store's rows of a run table by uid."""
    found, now = {}, read_clock(connection)
    for row in connection.execute(select(table.table)).mappings():
        is_finished = row["finished_at"] is not None and row.get("status", FINISHED) == FINISHED
        alive = row.get("status") == RUNNING and is_alive(row["owner"], row["heartbeat_at"], now)
        found[row["uid"]] = StoredRun(
            row["id"], row["config_hash"], is_finished, row["owner"] if alive else None,
            [(row[uri], row[sha256]) for uri, sha256 in table.files],
        )  # fmt: skip
    return found


def refuse_conflicts(connection: Connection, source: Source, tables: Iterable[PortableTable]) -> None:
    """Refuse runs that cannot be merged, before anything is written.

    Raises:
        StoreError: a process works on such a run here, or both sides have other results of it.
    """
    stored = {table.name: find_stored(connection, table) for table in run_tables()}
    evaluations = stored["evaluation"]
    needed = {
        row["attack_uid"]
        for row in source.runs(portable_tables()["evaluation"])
        if row["uid"] not in evaluations or not evaluations[row["uid"]].is_finished
    }
    for table in tables:
        for row in source.runs(table):
            found = stored[table.name].get(row["uid"])
            if found is None:
                continue
            if found.config_hash != row["config_hash"]:
                raise StoreError(f"{table.name} {row['uid']} is something else here than in {source.title}")
            if not found.is_finished:
                refuse_busy(connection, table, row["uid"], found.id, found.owner)
            elif [sha256 for _, sha256 in found.files] != [row[sha256] for _, sha256 in table.files] or (
                row["uid"] in needed and _differs(connection, source, table, row["uid"], found.id)
            ):
                raise StoreError(
                    f"{table.name} {row['uid']} was finished here and in {source.title} with other results; "
                    "import into a store of its own: jsdelta --workspace FOLDER db import …"
                )


def _differs(connection: Connection, source: Source, table: PortableTable, uid: str, run_id: int) -> bool:
    """Return whether a run's chunk files differ from the source's."""
    for child in leased_children(table):
        if {sha256 for _, sha256 in files_of(source, child, uid)} != {
            sha256 for _, sha256 in stored_files(connection, child, run_id)
        }:
            return True
    return False


def refuse_busy(
    connection: Connection, table: PortableTable, uid: str, run_id: int, owner: str | None = None
) -> None:
    """Refuse a run that a living process works on.

    Raises:
        StoreError: names the process.
    """
    now = read_clock(connection)
    for child in leased_children(table):
        chunks = child.table.c
        statement = select(chunks.owner, chunks.heartbeat_at).where(
            child.owner_column == run_id, chunks.status == RUNNING
        )
        claims = connection.execute(statement)
        owner = owner or next((name for name, beat in claims if is_alive(name, beat, now)), None)
    if owner is not None:
        raise StoreError(
            f"{describe(owner)} works on {table.name} {uid} here; wait for it, then run the same import again"
        )


def clear_conflicting(
    session: Session, table: PortableTable, uid: str, run_id: int, chunks: Iterable[Row]
) -> None:
    """Delete an unfinished run's rows, unless all its finished chunks are the source's.

    Raises:
        StoreError: a living process works on it.
    """
    connection = session.connection()
    refuse_busy(connection, table, uid, run_id)
    incoming = {(row["position"], row["n_attempts"]): row["sha256"] for row in chunks}
    for child in leased_children(table):
        columns = child.table.c
        statement = select(columns.position, columns.n_attempts, columns.status, columns.sha256)
        for position, n_attempts, status, sha256 in connection.execute(
            statement.where(child.owner_column == run_id)
        ):
            expected = incoming.get((position, n_attempts), "")
            if expected == "" or (status == FINISHED and sha256 != expected):
                _clear(session, table, run_id)
                return


def _clear(session: Session, table: PortableTable, run_id: int) -> None:
    """Delete a run's chunks and samples or scores; of an attack, those of its evaluations, too."""
    if table.name == "attack":
        evaluation = portable_tables()["evaluation"]
        for key, uid in session.execute(
            select(Evaluation.id, Evaluation.uid).where(Evaluation.attack_id == run_id)
        ).all():
            refuse_busy(session.connection(), evaluation, uid, key)
            _clear(session, evaluation, key)
    for child in children_of(table):
        if child.is_leased or child.is_bulk:
            session.execute(delete(child.table).where(child.owner_column == run_id))


def leased_children(table: PortableTable) -> list[PortableTable]:
    """Return the tables of a run's chunks: those that processes claim."""
    return [child for child in children_of(table) if child.is_leased]


def stored_files(connection: Connection, child: PortableTable, run_id: int) -> set[Pair]:
    """Return the files that a run's rows of one table name in this store."""
    pairs: set[Pair] = set()
    for uri, sha256 in child.files:
        columns = child.table.c
        statement = select(columns[uri], columns[sha256]).where(child.owner_column == run_id)
        pairs.update((row[0], row[1]) for row in connection.execute(statement))
    return pairs


def is_other_file(connection: Connection, uri: str, sha256: str) -> bool:
    """Return whether a row of this store names another file at a path."""
    for table in portable_tables().values():
        for name, other in table.files:
            columns = table.table.c
            statement = select(columns[other]).where(columns[name] == uri, columns[other] != sha256)
            if connection.execute(statement.limit(1)).first() is not None:
                return True
    return False
