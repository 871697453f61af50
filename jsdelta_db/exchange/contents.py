"""Contents of a source: every value held against its range, and rows against each other, before a merge.

What passes can be merged whole: keys are not there twice, what a row repeats of another is the same there,
chunks are the plan's, samples and scores are as many as planned, of the same attempts, and those of their
digests.
"""

import hashlib
import math
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import cache
from typing import Any, NoReturn

import numpy as np
from sqlalchemy import JSON, Boolean, DateTime, Integer, LargeBinary, PrimaryKeyConstraint, UniqueConstraint

from jsdelta_db.config.attack_by import parse_recorded
from jsdelta_db.errors import StoreError, one_of
from jsdelta_db.exchange.tables import (
    PACKED,
    Batch,
    PortableColumn,
    PortableTable,
    Row,
    is_float,
    portable_tables,
)
from jsdelta_db.records import UNTARGETED
from jsdelta_db.store.dataset_facts import find_impossible
from jsdelta_db.store.digests import COVERED, OF_BASELINE, add_up, digest_baseline, digest_of_rows
from jsdelta_db.store.image_keys import KEY
from jsdelta_db.store.outside import fits
from jsdelta_db.store.packed import BY_EVALUATOR
from jsdelta_db.store.ranges import CHOICES, PACKED_RANGES, Range, range_of, shown

LABELS = ("source_label", "target_label", "requested_target", "label_low", "label_high")
VOTES = ("n_right", "n_at_target", "n_at_target_adv", "n_right_adv")
BULK = {"sample": "attack", "score": "evaluation"}


class Contents:
    """The rows of a source, checked as they go by.

    Args:
        title: the source's name for people.
        runs: returns the rows of a run table.
        tables: the run tables that will be merged.

    Raises:
        StoreError: names the first value that is not valid; so do the methods.
    """

    def __init__(
        self, title: str, runs: Callable[[PortableTable], list[Row]], tables: Sequence[PortableTable]
    ) -> None:
        self._title, self._tables = title, tables
        self._runs: dict[str, dict[str, Row]] = {}
        self._seen: dict[tuple[str, ...], set[tuple[Any, ...]]] = {}
        self._facts: dict[tuple[str, str], _Facts] = {}
        for table in tables:
            rows = runs(table)
            self._runs[table.name] = {row["uid"]: row for row in rows}
            for row in rows:
                self._check_rows(table, row["uid"], [tuple(row[name] for name in table.names)])

    def add(self, table: PortableTable, uid: str, rows: Batch) -> None:
        """Check some rows of a run; those of one run must come in the order of their keys."""
        self._check_rows(table, uid, rows)
        facts = self._facts.setdefault((table.name, uid), _Facts())
        facts.n += len(rows)
        if table.name in BULK:
            self._add_attempts(table, uid, rows, facts)
            return
        for row in rows:
            self._check_row(table, uid, dict(zip(table.names, row, strict=True)), facts)

    def finish(self) -> None:
        """Check what only all rows together show: counts, plans, and digests."""
        for name in ("attack", "evaluation"):
            for uid, row in self._runs.get(name, {}).items():
                attack = row if name == "attack" else self._runs["attack"][row["attack_uid"]]
                self._finish_run(name, uid, attack)

    def _finish_run(self, name: str, uid: str, attack: Row) -> None:
        rows = next(table for table, owner in BULK.items() if owner == name)
        bulk, chunks, members = (
            self._facts.get((table, uid), _Facts()) for table in (rows, f"{name}_chunk", "evaluation_member")
        )
        planned = attack["n_attempts"]
        if bulk.n != planned:
            raise StoreError(
                f"{self._title}: {name} {uid} has {bulk.n} rows of {rows}, {planned} were planned; "
                "see jsdelta db check where it came from"
            )
        keys, n_images = attack["image_keys"], attack["n_images"]
        if keys is not None and (len(keys) != KEY.itemsize * n_images or bulk.last[0] >= n_images):
            self._refuse("attack", attack["uid"], f"its image_keys are not those of {n_images} images")
        sizes = [chunks.attempts[position] for position in sorted(chunks.attempts)]
        if sorted(chunks.attempts) != list(range(len(sizes))) or (
            sum(sizes) != planned or max(sizes, default=0) > attack["chunk_size"]
        ):
            self._refuse(name, uid, f"its chunks do not hold the {planned} attempts that were planned")
        if name == "evaluation":
            if bulk.keys.digest() != self._facts.get(("sample", attack["uid"]), _Facts()).keys.digest():
                raise StoreError(
                    f"{self._title}: evaluation {uid} has scores of other samples than its attack's"
                )
            widths = bulk.widths | self._facts.get(("evaluation_baseline", uid), _Facts()).widths
            if bulk.most_votes > members.n or widths - {4 * members.n}:
                self._refuse(name, uid, f"its scores are not those of {members.n} evaluators")
        if None not in chunks.digests and add_up(chunks.digests) != add_up(bulk.digests):
            self._refuse(name, uid, f"its rows of {rows} are not those that were stored")

    def _add_attempts(self, table: PortableTable, uid: str, rows: Batch, facts: "_Facts") -> None:
        place = table.names.index("sample_index")
        keys = [row[place : place + 2] for row in rows]
        for before, after in zip([facts.last, *keys], keys, strict=False):
            if before >= after:
                self._refuse(
                    table.name, uid, f"attempts {before} and {after} are there twice or out of order"
                )
        facts.last = keys[-1] if keys else facts.last
        facts.keys.update("".join(f"{index}:{target};" for index, target in keys).encode())
        places = [table.names.index(name) for name in COVERED[table.name]]
        digest = digest_of_rows(table.name, [[row[each] for each in places] for row in rows])
        facts.digests.append(digest or "")
        if table.name == "sample":
            self._check_outside(table, uid, rows)
        if table.name == "score":
            votes = [table.names.index(name) for name in VOTES]
            facts.most_votes = max(facts.most_votes, *(row[each] or 0 for row in rows for each in votes))
            packed = [table.names.index(name) for name in BY_EVALUATOR]
            facts.widths |= {len(row[each]) for row in rows for each in packed if row[each] is not None}

    def _check_outside(self, table: PortableTable, uid: str, rows: Batch) -> None:
        attack = self._runs["attack"][uid]
        sizes, outside = (
            [row[table.names.index(name)] for row in rows] for name in (attack["norm"], "outside")
        )
        if not fits(attack["attack_by"], attack["eps"], sizes, outside):
            self._refuse(table.name, uid, "outside is not what the sizes of its samples say")

    def _check_row(self, table: PortableTable, uid: str, row: Row, facts: "_Facts") -> None:
        """Check what belongs together within a row."""
        if table.is_leased:
            facts.attempts[row["position"]] = row["n_attempts"]
            facts.digests.append(row["digest"])
        if row.get("model_sha256", "") == row.get("attacked_sha256"):
            self._refuse(table.name, uid, "an evaluator has the attacked weights")
        if row.get("label_low", -1) >= row.get("label_high", 0):
            self._refuse(table.name, uid, f"label_low {row['label_low']} must be below label_high")
        if table.name == "evaluation_baseline" and row["rho_of_mean_without"] is not None:
            facts.widths.add(len(row["rho_of_mean_without"]) // 2)  # doubles
        if table.name == "rho_baseline":
            n_images = len(row["image_means"]) // 8
            # Of a draw of image pairs each image is in one at least.
            most = row["n_low"] * (n_images - row["n_low"])
            if not max(row["n_low"], n_images - row["n_low"]) <= row["pairs"] <= most:
                self._refuse(table.name, uid, f"pairs {row['pairs']} do not fit its {n_images} images")
            digest = digest_baseline(
                uid, row["dataset_uid"], {name: row[name] for name in (*OF_BASELINE, "image_means")}
            )
            if row["digest"] not in (None, digest):
                self._refuse(table.name, uid, "the baseline is not the one that was stored")

    def _check_rows(self, table: PortableTable, uid: str, rows: Batch) -> None:
        """Check the values of rows column by column, then what they repeat of other rows."""
        for each, values in zip(table.columns, zip(*rows, strict=True), strict=True):
            present = [value for value in values if value is not None] if each.column.nullable else values
            kinds = _kinds_of(each)
            if not set(map(type, present)) <= set(kinds):
                wrong = next(value for value in present if type(value) not in kinds)
                must = one_of(kind.__name__ for kind in kinds)
                self._refuse(table.name, uid, f"{each.name} {wrong!r} is not valid: must be {must}")
            numbers: Any = present
            limits = self._limits(table, uid, each.name)
            if each.name in PACKED:
                numbers, limits = _numbers(present, PACKED[each.name]), PACKED_RANGES[each.name]
            elif is_float(each.column) and not all(map(math.isfinite, present)):
                self._refuse(table.name, uid, f"{each.name} holds a value that is not finite")
            if limits is not None and len(numbers):
                for value in (min(numbers), max(numbers)):
                    if not limits[0] <= value <= limits[1]:
                        reason = f"{each.name} {value:.17g} is not valid: must be {shown(limits)}"
                        self._refuse(table.name, uid, reason)
            choices = CHOICES.get(table.name, {}).get(each.name)
            for value in set(present) - set(choices) if choices is not None else ():
                reason = f"{each.name} {value!r} is not valid: must be {one_of(map(repr, choices or ()))}"
                self._refuse(table.name, uid, reason)
        if table.name == "dataset":
            self._check_dataset(uid, dict(zip(table.names, rows[0], strict=True)))
        if table.name == "attack":
            try:
                parse_recorded(rows[0][table.names.index("attack_by")])
            except StoreError as error:
                self._refuse(table.name, uid, str(error))
        self._check_copies(table, uid, rows)
        if table.name not in BULK:
            self._check_keys(table, uid, rows)

    def _limits(self, table: PortableTable, uid: str, column: str) -> Range | None:
        """Return the range of a column's numbers; of labels, by the classes of the run's data set."""
        limits = range_of(table.name, column)
        if column not in LABELS or limits is None:
            return limits
        run = self._runs[table.owner or ""][uid]
        attack = self._runs["attack"][run["attack_uid"]] if "attack_uid" in run else run
        n_classes = len(self._runs["dataset"][attack["dataset_uid"]]["classes"])
        return UNTARGETED if column == "requested_target" else 0, n_classes - 1

    def _check_dataset(self, uid: str, row: Row) -> None:
        classes = row["classes"]
        if not isinstance(classes, list) or not all(isinstance(name, str) for name in classes):
            self._refuse("dataset", uid, "classes are not valid: must be a list of names")
        impossible = find_impossible(row["kind"], row["construction"])
        if impossible is not None:
            self._refuse("dataset", uid, impossible)

    def _check_copies(self, table: PortableTable, uid: str, rows: Batch) -> None:
        """Check that what rows repeat of their parents, by a foreign key of several columns, is so there."""
        for parent, place, copied in _copies(table.name):
            for row in rows:
                of_parent = self._runs[parent].get(row[place])
                for name, copy in copied:
                    if of_parent is not None and of_parent[name] != row[copy]:
                        self._refuse(
                            table.name, uid, f"{table.names[copy]} is not the {name} of {parent} {row[place]}"
                        )

    def _check_keys(self, table: PortableTable, uid: str, rows: Batch) -> None:
        for names, places in _keys(table.name):
            seen = self._seen.setdefault((table.name, *names), set())
            for row in rows:
                key = tuple(row[place] for place in places)
                if key in seen:
                    self._refuse(table.name, uid, f"{', '.join(names)} {key} is there twice")
                seen.add(key)

    def _refuse(self, table: str, uid: str, reason: str) -> NoReturn:
        raise StoreError(f"{self._title}: {table} of {uid}: {reason}")


class _Facts:
    """What is known of the rows of one table that belong to a run."""

    def __init__(self) -> None:
        self.n, self.last, self.most_votes = 0, (-1, -1), 0
        self.keys = hashlib.sha256()
        self.digests: list[Any] = []
        self.widths: set[int] = set()
        self.attempts: dict[int, int] = {}  # by the chunk's position


def _numbers(values: Sequence[bytes], kind: str) -> np.ndarray[Any, Any]:
    content = b"".join(values)
    return np.frombuffer(content[: len(content) // int(kind[-1]) * int(kind[-1])], kind)


def _kinds_of(column: PortableColumn) -> tuple[type, ...]:
    """Return the Python types of a column's values."""
    if is_float(column.column):
        return (float, int)
    if column.parent is not None:
        return (str,)
    kinds: tuple[tuple[type, tuple[type, ...]], ...] = (
        (JSON, (dict, list, str)), (Boolean, (bool, int)), (Integer, (int,)), (LargeBinary, (bytes,)),
        (DateTime, (datetime,)),
    )  # fmt: skip
    return next((each for sort, each in kinds if isinstance(column.column.type, sort)), (str,))


@cache
def _keys(table: str) -> list[tuple[list[str], list[int]]]:
    """Return names and places of the columns that no two rows have alike."""
    described = portable_tables()[table]
    places = {each.column.name: place for place, each in enumerate(described.columns)}
    found = []
    for constraint in described.table.constraints:
        if isinstance(constraint, (PrimaryKeyConstraint, UniqueConstraint)):
            names = [column.name for column in constraint.columns]
            if set(names) <= places.keys():
                found.append((names, [places[name] for name in names]))
    return found


@cache
def _copies(table: str) -> list[tuple[str, int, list[tuple[str, int]]]]:
    """Return of each foreign key of several columns: its parent, its uid's place, and what is repeated."""
    described = portable_tables()[table]
    places = {each.column.name: place for place, each in enumerate(described.columns)}
    found = []
    for key in described.table.foreign_key_constraints:
        pairs = [(part.column.name, places[part.parent.name]) for part in key.elements]
        if len(pairs) > 1:
            ((_, place),) = [pair for pair in pairs if pair[0] == "id"]
            found.append((key.referred_table.name, place, [pair for pair in pairs if pair[0] != "id"]))
    return found
