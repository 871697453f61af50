"""Attempts: rows per sample, written chunk by chunk and read back."""

from collections.abc import Mapping
from itertools import repeat
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import ColumnElement, bindparam, func, literal_column, select, update
from sqlalchemy.orm import Session

from jsdelta_db.errors import StoreError
from jsdelta_db.records import Attempts, LabelPair, Samples, Scores, label_pair
from jsdelta_db.store.digests import Columns, digest_of
from jsdelta_db.store.inserting import insert_rows
from jsdelta_db.store.outside import COUNTED
from jsdelta_db.store.packed import BY_EVALUATOR, pack
from jsdelta_db.store.schema import Base, Sample, Score, Small

IS_COUNTED: ColumnElement[int] = literal_column(COUNTED, Small)  # 1 of a sample that counts as a success
MOST_IMAGES = 1 << 26  # of a split, as queries make an array of that size; ImageNet has fifty times fewer


def sample_columns(samples: Samples) -> Columns:
    """Return a chunk of attempts as the columns that are stored."""
    attempts = samples.attempts
    return {
        "sample_index": attempts.sample_index,
        "requested_target": attempts.requested_target,
        "source_label": attempts.source_label,
        "target_label": samples.target_label,
        "success": samples.success.astype(np.int64),
        "confidence": samples.confidence,
        "linf": samples.linf,
        "l2": samples.l2,
    }


def write_samples(
    session: Session, *, attack_id: int, samples: Samples, more: Columns = MappingProxyType({})
) -> str:
    """Store one chunk of attempts, and return its digest.

    Args:
        more: columns that follow from the others and the attack; see ``outside.py``.

    Raises:
        StoreError: a value is not finite.
    """
    columns = sample_columns(samples)
    insert_samples(session, attack_id, {**columns, **more})
    return digest_of("sample", columns)


def insert_samples(session: Session, attack_id: int, columns: Columns) -> None:
    """Insert samples as :func:`sample_columns` gives them.

    Raises:
        StoreError: a value is not finite.
    """
    _check_image_numbers(columns["sample_index"])
    _insert_arrays(session, Sample, {"attack_id": attack_id}, columns)


def _check_image_numbers(sample_index: NDArray[np.int64]) -> None:
    """Check that queries can count by these image numbers.

    Raises:
        StoreError: one is out of range; names the first.
    """
    wrong = sample_index[(sample_index < 0) | (sample_index >= MOST_IMAGES)]
    if len(wrong):
        raise StoreError(f"sample_index {wrong[0]} is not valid: must be 0 to {MOST_IMAGES - 1}")


def score_columns(scores: Scores) -> Columns:
    """Return a chunk of scores as the columns that are stored; a missing JSΔ is NaN."""
    return {
        "sample_index": scores.attempts.sample_index,
        "requested_target": scores.attempts.requested_target,
        "js": scores.js,
        "js_of_mean": scores.js_of_mean,
        "js_delta": scores.js_delta,
        "js_attacked": scores.js_attacked,
        "n_right": scores.n_right,
        "n_at_target": scores.n_at_target,
        "n_at_target_adv": scores.n_at_target_adv,
        "member_js": scores.member_js,
        "n_right_adv": scores.n_right_adv,
        "js_of_mean_without": scores.js_of_mean_without,
    }


def write_scores(session: Session, *, evaluation_id: int, scores: Scores) -> str:
    """Store one chunk of scores, and return its digest.

    Raises:
        StoreError: a value that must be finite is not.
    """
    columns = score_columns(scores)
    insert_scores(session, evaluation_id, columns)
    return digest_of("score", columns)


def insert_scores(session: Session, evaluation_id: int, columns: Columns) -> None:
    """Insert scores as :func:`score_columns` gives them; a missing JSΔ becomes NULL.

    Args:
        columns: those of an earlier version, which has fewer, are inserted as they are.

    Raises:
        StoreError: another value is not finite.
    """
    plain = dict(columns)
    js_delta, attempts = plain.pop("js_delta"), plain["sample_index"]
    # NaN alone means undefined; and in the packed columns no constraint would see a member's NaN.
    _check_finite(Score, "js_delta", np.nan_to_num(js_delta, posinf=np.inf, neginf=-np.inf), attempts)
    lists: dict[str, list[Any]] = {"js_delta": _with_nulls(js_delta)}
    for name in BY_EVALUATOR:
        values = plain.pop(name, None)
        if values is not None and values.shape[1]:
            _check_finite(Score, name, values.sum(axis=1), attempts)
            lists[name] = pack(values)
    _insert_arrays(session, Score, {"evaluation_id": evaluation_id}, plain, lists)


def read_samples(
    session: Session,
    *,
    attack_id: int,
    sample_index: NDArray[np.int64],
    requested_target: NDArray[np.int64],
) -> dict[str, NDArray[Any]]:
    """Return the stored columns of some attempts, in the order given.

    Raises:
        StoreError: one of them is missing.
    """
    names = ("source_label", "target_label", "success", "confidence", "linf", "l2")
    statement = select(
        Sample.sample_index, Sample.requested_target, *(getattr(Sample, name) for name in names)
    ).where(
        Sample.attack_id == attack_id,
        Sample.sample_index.between(int(sample_index.min()), int(sample_index.max())),
    )
    stored = {(row[0], row[1]): row[2:] for row in session.execute(statement)}
    keys = list(zip(sample_index.tolist(), requested_target.tolist(), strict=True))
    missing = next((key for key in keys if key not in stored), None)
    if missing is not None:
        raise StoreError(
            f"the sample of image {missing[0]} towards {missing[1]} is missing; see jsdelta db check"
        )
    columns = dict(zip(names, map(np.array, zip(*(stored[key] for key in keys), strict=True)), strict=True))
    return {**columns, "success": columns["success"].astype(bool)}


def list_label_pairs(session: Session, *, attack_id: int) -> set[LabelPair]:
    """Return the label pairs of an attack's samples."""
    rows = session.execute(
        select(Sample.source_label, Sample.target_label).where(Sample.attack_id == attack_id).distinct()
    )
    return {label_pair(source, target) for source, target in rows}


def write_stability(
    session: Session, *, attack_id: int, attempts: Attempts, stability: NDArray[np.float64]
) -> None:
    """Update the stability ``(n,)`` of stored samples."""
    columns = (attempts.sample_index, attempts.requested_target, stability)
    rows = [
        {"a": attack_id, "i": index, "t": target, "value": value}
        for index, target, value in zip(*(column.tolist() for column in columns), strict=True)
    ]
    key = (Sample.attack_id == bindparam("a")) & (Sample.sample_index == bindparam("i"))
    statement = update(Sample).where(key, Sample.requested_target == bindparam("t"))
    session.connection().execute(statement.values(stability=bindparam("value")), rows)


def count_without_stability(session: Session, *, attack_id: int) -> int:
    """Return how many successful samples of an attack have no stability yet."""
    missing = (Sample.attack_id == attack_id) & (IS_COUNTED == 1) & Sample.stability.is_(None)
    return session.scalar(select(func.count()).select_from(Sample).where(missing)) or 0


def _insert_arrays(
    session: Session,
    table: type[Base],
    constants: Mapping[str, int],
    columns: Mapping[str, NDArray[Any]],
    lists: Mapping[str, list[Any]] | None = None,
) -> None:
    """Insert columns of equal length.

    Args:
        constants: columns of one value.
        columns: arrays of finite numbers, ``sample_index`` among them.
        lists: values that are checked already, as the driver takes them.
    """
    for name, column in columns.items():
        _check_finite(table, name, column, columns["sample_index"])
    ready = lists or {}
    values = [*(column.tolist() for column in columns.values()), *ready.values()]
    same = [repeat(value, len(values[0])) for value in constants.values()]
    insert_rows(session, table, (*constants, *columns, *ready), list(zip(*same, *values, strict=True)))


def _with_nulls(values: NDArray[np.float64]) -> list[float | None]:
    """Return the values with None for NaN."""
    listed: list[float | None] = values.tolist()
    for row in np.flatnonzero(np.isnan(values)):
        listed[row] = None
    return listed


def _check_finite(
    table: type[Base], name: str, column: NDArray[Any], sample_index: NDArray[np.int64]
) -> None:
    """Check that a column is finite.

    Raises:
        StoreError: names the first image with NaN or infinity.
    """
    bad = np.flatnonzero(~np.isfinite(column))
    if len(bad):
        raise StoreError(
            f"{table.__tablename__}.{name} of image {sample_index[bad[0]]} is {column[bad[0]]}: "
            "must be finite"
        )
