"""Digests: whether stored rows are still those that were written.

A chunk's digest is the sum of one hash per row. So rows may be read in any order and in any batches, and
the digests of an attack's chunks add up to that of all its rows. Each begins with the version of the columns
that it covers: none that is filled in later, such as stability. Columns that a later version added leave no
trace where they are null, so that digests of rows from before stay what they were. They notice faults, not
forgers.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jsdelta_db.store.packed import BY_EVALUATOR, are_whole, unpack
from jsdelta_db.store.reading import Reader, fetch_batches

VERSION = "1"
# Null in rows from before there were such columns; ``doctor --repair`` fills them, with new digests.
LATER = ("n_right_adv", "js_of_mean_without")
# By table the columns that version 1 covers.
COVERED = {
    "sample": (
        "sample_index", "requested_target", "source_label", "target_label", "success", "confidence", "linf",
        "l2",
    ),
    "score": (
        "sample_index", "requested_target", "js", "js_of_mean", "js_delta", "js_attacked", "n_right",
        "n_at_target", "n_at_target_adv", "member_js", *LATER,
    ),
}  # fmt: skip
OF_BASELINE = (
    "split", "temperature_rule", "label_low", "label_high", "rho", "standard_error", "pairs", "n_low",
)  # fmt: skip

Columns = Mapping[str, NDArray[Any]]
Hashes = NDArray[np.uint64]


def digest_of(table: str, columns: Columns) -> str:
    """Return the digest of rows as they are stored; NaN stands for null.

    Args:
        columns: those that are covered, ``(n,)``, and packed ones, float32 ``(n, evaluators)``; those of
            ``LATER`` may be left out, as if they were null throughout.
    """
    names = [name for name in COVERED[table] if name in columns or name not in LATER]
    return _text(_sum_of(_words(columns[name], name) for name in names))


def digest_of_rows(table: str, rows: Sequence[Sequence[Any]]) -> str | None:
    """Return the digest of fetched rows of the covered columns; None if a value cannot be one of ours."""
    try:
        columns = {
            name: _unpacked(values) if name in BY_EVALUATOR else np.array(values, np.float64)
            for name, values in zip(COVERED[table], zip(*rows, strict=True), strict=True)
        }
        return digest_of(table, columns)
    except (ValueError, TypeError, OverflowError):
        return None


def digest_stored(reader: Reader, table: str, parent: str, parent_id: int) -> tuple[int, str | None]:
    """Return how many rows of a table belong to a run, and their digest."""
    names = ", ".join(COVERED[table])
    sql = f"SELECT {names} FROM {table} WHERE {parent} = :parent_id"  # noqa: S608 the schema's
    n, found = 0, [_text(0)]
    for rows in fetch_batches(reader, sql, parent_id=parent_id):
        n += len(rows)
        digest = digest_of_rows(table, rows)
        found.append(digest or "")
    return n, add_up(found)


def add_up(digests: Iterable[str]) -> str | None:
    """Return the digest of all rows of some parts; None if one of theirs is none of ours."""
    try:
        return _text(sum(int(digest.removeprefix(f"{VERSION}:"), 16) for digest in digests))
    except ValueError:
        return None


def digest_baseline(model: str, dataset: str, facts: Mapping[str, Any]) -> str:
    """Return the digest of a model's baseline of two labels.

    Args:
        model, dataset: their uids.
        facts: the row's columns.
    """
    found = hashlib.sha256(f"{model}\n{dataset}\n".encode())
    plain = (np.asarray(facts[name]).item() for name in OF_BASELINE)  # NumPy's numbers, too
    found.update("\n".join(map(repr, plain)).encode())
    found.update(facts["image_means"])
    return f"{VERSION}:{found.hexdigest()}"


def _text(value: int) -> str:
    return f"{VERSION}:{value % (1 << 64):016x}"


def _words(column: NDArray[Any], name: str) -> Iterable[tuple[Hashes, NDArray[np.bool_] | bool]]:
    """Yield a column as words of 64 bits, each ``(n,)``, with the rows in which it counts."""
    if name in BY_EVALUATOR:
        words = column.astype("<f4").view("<u4").astype(np.uint64).T
        counts = ~np.isnan(column[:, 0]) if name in LATER and len(words) else True
        yield from ((word, counts) for word in words)
        return
    values = column.astype(np.float64) + 0.0  # SQLite knows no −0
    is_null = np.isnan(values)
    values[is_null] = np.nan  # of which there are many
    yield values.view(np.uint64), ~is_null if name in LATER else True


def _sum_of(columns: Iterable[Iterable[tuple[Hashes, NDArray[np.bool_] | bool]]]) -> int:
    """Return the sum of the rows' hashes: every word goes through the steps of SplitMix64.

    Source: Steele, Lea and Flood 2014, "Fast splittable pseudorandom number generators".
    """
    mixed: Hashes = np.zeros(1, np.uint64)
    for column in columns:
        for word, counts in column:
            before = mixed
            mixed = (mixed + np.uint64(0x9E3779B97F4A7C15)) ^ word
            mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
            mixed ^= mixed >> np.uint64(31)
            if counts is not True:
                mixed = np.where(counts, mixed, before)
    return int(mixed.sum(dtype=np.uint64))


def _unpacked(values: Sequence[bytes | None]) -> NDArray[np.float32]:
    if not are_whole(values):
        raise ValueError("cut short")
    return unpack(values)
