"""Runs that are here already when they come again: which stay, which give way, and what is refused."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Column, Connection, delete, select
from sqlalchemy.orm import Session

from jsdelta_db.errors import StoreError
from jsdelta_db.exchange.source import Source, files_of
from jsdelta_db.exchange.tables import PortableTable, Row, portable_tables, run_tables
from jsdelta_db.runtime.leases import describe, is_alive
from jsdelta_db.store.schema import FINISHED, RUNNING, Evaluation

Pair = tuple[str, str]  # a file's path in the workspace and its sha256


@dataclass(frozen=True, slots=True)
class Here:
    """A run as this store has it.

    Attributes:
        owner: who works on it, if they live.
        files: what it names.
    """

    id: int
    config_hash: str
    is_finished: bool
    owner: str | None
    files: Sequence[Pair]


def find_here(connection: Connection, table: PortableTable) -> dict[str, Here]:
    """Return this store's rows of a run table by uid."""
    found = {}
    for row in connection.execute(select(table.table)).mappings():
        is_finished = row["finished_at"] is not None and row.get("status", FINISHED) == FINISHED
        alive = row.get("status") == RUNNING and is_alive(row["owner"], row["heartbeat_at"])
        found[row["uid"]] = Here(
            row["id"], row["config_hash"], is_finished, row["owner"] if alive else None,
            [(row[uri], row[sha256]) for uri, sha256 in table.files],
        )  # fmt: skip
    return found


def refuse_conflicts(connection: Connection, source: Source, tables: Iterable[PortableTable]) -> None:
    """Look for runs that cannot be merged, before anything is written.

    Raises:
        StoreError: a run that somebody works on here, or one of which both sides have other results.
    """
    here = {table.name: find_here(connection, table) for table in run_tables()}
    needed = {
        row["attack_uid"]
        for row in source.runs(portable_tables()["evaluation"])
        if row["uid"] not in here["evaluation"] or not here["evaluation"][row["uid"]].is_finished
    }
    for table in tables:
        for row in source.runs(table):
            found = here[table.name].get(row["uid"])
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
    """Whether a run's chunk files are others here than in the source."""
    for child in leased_children(table):
        if {sha256 for _, sha256 in files_of(source, child, uid)} != {
            sha256 for _, sha256 in files_here(connection, child, run_id)
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
    for child in leased_children(table):
        chunks = child.table.c
        statement = select(chunks.owner, chunks.heartbeat_at).where(
            owner_column(child) == run_id, chunks.status == RUNNING
        )
        owner = owner or next(
            (who for who, beat in connection.execute(statement) if is_alive(who, beat)), None
        )
    if owner is not None:
        raise StoreError(
            f"{describe(owner)} works on {table.name} {uid} here; wait for it, then run the same import again"
        )


def make_room(session: Session, table: PortableTable, uid: str, run_id: int, chunks: Iterable[Row]) -> None:
    """Take away what is here of an unfinished run, unless all of it is part of what comes.

    Raises:
        StoreError: a living process works on it.
    """
    connection = session.connection()
    refuse_busy(connection, table, uid, run_id)
    coming = {(row["position"], row["n_attempts"]): row["sha256"] for row in chunks}
    for child in leased_children(table):
        columns = child.table.c
        statement = select(columns.position, columns.n_attempts, columns.status, columns.sha256)
        for position, n_attempts, status, sha256 in connection.execute(
            statement.where(owner_column(child) == run_id)
        ):
            kept = coming.get((position, n_attempts), "")
            if kept == "" or (status == FINISHED and sha256 != kept):
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
    for name in table.children:
        child = portable_tables()[name]
        if child.is_leased or child.is_bulk:
            session.execute(delete(child.table).where(owner_column(child) == run_id))


def leased_children(table: PortableTable) -> list[PortableTable]:
    """Return a run's chunks: the children that processes claim."""
    return [child for name in table.children if (child := portable_tables()[name]).is_leased]


def owner_column(child: PortableTable) -> Column[Any]:
    """Return the column that says which run a row belongs to."""
    return child.columns[0].column


def files_here(connection: Connection, child: PortableTable, run_id: int) -> set[Pair]:
    """Return the files that a run's rows name here."""
    pairs: set[Pair] = set()
    for uri, sha256 in child.files:
        columns = child.table.c
        statement = select(columns[uri], columns[sha256]).where(owner_column(child) == run_id)
        pairs.update((row[0], row[1]) for row in connection.execute(statement))
    return pairs


def is_named_otherwise(connection: Connection, uri: str, sha256: str) -> bool:
    """Whether a row here says that there is another file at a path."""
    for table in portable_tables().values():
        for name, other in table.files:
            columns = table.table.c
            statement = select(columns[other]).where(columns[name] == uri, columns[other] != sha256)
            if connection.execute(statement.limit(1)).first() is not None:
                return True
    return False
