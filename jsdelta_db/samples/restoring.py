"""Restoring of rows: altered samples and scores taken again from the hashed files of their chunks.

A file holds the columns of its rows, and its hash says whether it is what was written. Files of earlier
versions hold the attempts' keys alone: with them only the digests of the rows, as they are, can be made.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from jsdelta_db.errors import CheckpointError, JsdeltaError
from jsdelta_db.records import FILE_SPLIT
from jsdelta_db.samples.chunk_files import Arrays, read_chunk_file
from jsdelta_db.samples.foreign.recognition import key_images
from jsdelta_db.store.altered import SAMPLES, RowKind
from jsdelta_db.store.attempts import insert_samples, insert_scores
from jsdelta_db.store.digests import COVERED, LATER, Columns, digest_of, digest_of_rows
from jsdelta_db.store.image_keys import pack_keys
from jsdelta_db.store.outside import outside_column
from jsdelta_db.store.schema import FINISHED, Attack, Dataset, Sample
from jsdelta_db.workbench.datasets import open_row
from jsdelta_db.workbench.workbench import Workbench

KEY = ("sample_index", "requested_target")


@dataclass(frozen=True, slots=True)
class StoredChunk:
    """A finished chunk: its file, and the digest of its rows (None for rows from before there were any)."""

    position: int
    uri: str
    sha256: str
    digest: str | None


def restore_rows(bench: Workbench, kind: RowKind, run_id: int) -> bool:
    """Take a run's samples or scores again from its files; what was filled in later stays.

    Returns:
        Whether all of them are what was stored; else nothing was changed.
    """
    chunks = list_chunks(bench, kind, run_id)
    parts = [_read_rows(bench, kind, chunk) for chunk in chunks]
    insert: Callable[[Session, int, Columns], None] = insert_samples if kind is SAMPLES else insert_scores
    with bench.store.transaction() as session:
        whole = [part for part in parts if part is not None]
        if len(whole) < len(chunks) or _finished(session, kind, run_id) != chunks:
            return False
        of_run = getattr(kind.rows, kind.parent) == run_id
        filled = _read_stability(session, run_id) if kind is SAMPLES else {}
        session.execute(delete(kind.rows).where(of_run))
        for chunk, part in zip(chunks, whole, strict=True):
            more = outside_column(session.get_one(Attack, run_id), part) if kind is SAMPLES else {}
            insert(session, run_id, {**part, **more})
            digest = digest_of(kind.rows.__tablename__, part)
            session.get_one(kind.chunks, (run_id, chunk.position)).digest = digest
        for (index, target), stability in filled.items():
            row = session.get(Sample, (run_id, index, target))
            if row is not None:
                row.stability = stability
    return True


def add_digests(bench: Workbench, kind: RowKind, run_id: int) -> int:
    """Add the digests that a run's chunks lack, of the rows as they are; return of how many rows."""
    chunks = [chunk for chunk in list_chunks(bench, kind, run_id) if chunk.digest is None]
    if not chunks:
        return 0
    found: dict[int, str] = {}
    names = COVERED[kind.rows.__tablename__]
    columns = [getattr(kind.rows, name) for name in names]
    with bench.store.reading() as connection:
        rows = connection.execute(select(*columns).where(getattr(kind.rows, kind.parent) == run_id)).all()
    stored = {(row[0], row[1]): tuple(row) for row in rows}
    n_rows = 0
    for chunk in chunks:
        arrays = read_file(bench, chunk)
        if arrays is None:
            continue
        keys = list(zip(*(arrays[name].tolist() for name in KEY), strict=True))
        digest = digest_of_rows(kind.rows.__tablename__, [stored[key] for key in keys if key in stored])
        if digest is not None and all(key in stored for key in keys):
            found[chunk.position], n_rows = digest, n_rows + len(keys)
    with bench.store.transaction() as session:
        for position, digest in found.items():
            row = session.get_one(kind.chunks, (run_id, position))
            row.digest = row.digest or digest
    return n_rows


def add_image_keys(bench: Workbench) -> Iterator[str]:
    """Tell apart by content the images of samples that an earlier version took from files.

    Yields:
        A line for each attack: done, or why not.
    """
    with bench.store.read_session() as session:
        without = (Attack.split == FILE_SPLIT) & Attack.image_keys.is_(None) & Attack.finished_at.is_not(None)
        attacks = session.scalars(select(Attack).where(without).order_by(Attack.id)).all()
        rows = {attack.dataset_id: session.get_one(Dataset, attack.dataset_id) for attack in attacks}
    for attack in attacks:
        parts = [read_file(bench, chunk) for chunk in list_chunks(bench, SAMPLES, attack.id)]
        whole = [part for part in parts if part is not None]
        try:
            dataset = open_row(bench, rows[attack.dataset_id])
        except JsdeltaError as error:
            yield f"the images of attack {attack.uid} are told apart by row: {error}"
            continue
        if len(whole) < len(parts):
            yield f"the images of attack {attack.uid} are told apart by row: a file is missing or altered"
            continue
        keys = np.zeros(attack.n_images, dtype=np.int64)  # of images that were not attacked: never asked for
        for part in whole:
            keys[part["sample_index"]] = key_images(torch.from_numpy(part["x"]), dataset)
        with bench.store.transaction() as session:
            session.get_one(Attack, attack.id).image_keys = pack_keys(keys)
        yield f"told the images of attack {attack.uid} apart by content"


def list_chunks(bench: Workbench, kind: RowKind, run_id: int) -> list[StoredChunk]:
    """Return the finished chunks of a run, in their order."""
    with bench.store.read_session() as session:
        return _finished(session, kind, run_id)


def _finished(session: Session, kind: RowKind, run_id: int) -> list[StoredChunk]:
    table = kind.chunks
    statement = (
        select(table.position, table.uri, table.sha256, table.digest)
        .where(getattr(table, kind.parent) == run_id, table.status == FINISHED)
        .order_by(table.position)
    )
    return [StoredChunk(row[0], row[1] or "", row[2] or "", row[3]) for row in session.execute(statement)]


def _read_rows(bench: Workbench, kind: RowKind, chunk: StoredChunk) -> Arrays | None:
    """Return the columns of a chunk's rows as they were stored; None if its file cannot give them."""
    arrays = read_file(bench, chunk)
    names = COVERED[kind.rows.__tablename__]
    if arrays is None or not set(names) - set(LATER) <= arrays.keys():
        return None
    return {name: arrays[name] for name in names if name in arrays}


def read_file(bench: Workbench, chunk: StoredChunk) -> Arrays | None:
    """Return the arrays of a chunk's file; None if it is missing or altered."""
    try:
        return read_chunk_file(bench.locate(chunk.uri), chunk.sha256)
    except CheckpointError:
        return None


def _read_stability(session: Session, attack_id: int) -> dict[tuple[int, int], Any]:
    rows = session.execute(
        select(Sample.sample_index, Sample.requested_target, Sample.stability).where(
            Sample.attack_id == attack_id, Sample.stability.is_not(None)
        )
    )
    return {(index, target): stability for index, target, stability in rows}
