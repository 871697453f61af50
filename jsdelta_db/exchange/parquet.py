"""Portable rows as Parquet: plain columns of fixed types, checked value by value when they are read."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import JSON, Boolean, DateTime, Integer, LargeBinary, SmallInteger

from jsdelta_db.errors import StoreError
from jsdelta_db.exchange.source import BATCH_ROWS
from jsdelta_db.exchange.tables import PACKED, Batch, PortableColumn, PortableTable, Row, is_float

if TYPE_CHECKING:
    import pyarrow as pa

ROW_GROUP = 50_000  # rows that lie together in a file


def arrow_schema(table: PortableTable) -> "pa.Schema":
    """Return the columns and types of a table's file."""
    return _schema_of(table.columns)


def _schema_of(columns: Iterable[PortableColumn]) -> "pa.Schema":
    import pyarrow as pa

    return pa.schema([pa.field(each.name, _arrow_type(each), _may_be_null(each)) for each in columns])


def _arrow_type(column: PortableColumn) -> "pa.DataType":
    import pyarrow as pa

    kind = column.column.type
    if column.parent is not None:
        return pa.string()
    if is_float(column.column):
        return pa.float64()
    for sort, arrow in (
        (SmallInteger, pa.int16()),
        (Integer, pa.int64()),
        (Boolean, pa.bool_()),
        (LargeBinary, pa.binary()),
        (DateTime, pa.timestamp("us", tz="UTC")),
    ):
        if isinstance(kind, sort):
            return arrow
    return pa.string()  # text, and JSON as text


def _may_be_null(column: PortableColumn) -> bool:
    return bool(column.column.nullable) and column.name != "finished_at"


def write_parquet(path: Path, table: PortableTable, batches: Iterable[Batch]) -> int:
    """Write rows as one file; return how many."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema, count = arrow_schema(table), 0
    documents = [isinstance(each.column.type, JSON) for each in table.columns]
    waiting: Batch = []
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:

        def flush() -> None:
            columns = zip(*waiting, strict=True) if waiting else [()] * len(documents)
            arrays = [
                pa.array([_as_text(value) for value in column] if is_json else column, type=field.type)
                for column, is_json, field in zip(columns, documents, schema, strict=True)
            ]
            writer.write_batch(pa.record_batch(arrays, schema=schema))
            waiting.clear()

        for batch in batches:
            waiting += batch
            count += len(batch)
            if len(waiting) >= ROW_GROUP:
                flush()
        flush()
    return count


def _as_text(value: object) -> str | None:
    return None if value is None else json.dumps(value)


def read_runs(path: Path, table: PortableTable, added: Mapping[str, Any]) -> list[Row]:
    """Return the rows of a run table's file; arguments as for :func:`read_parquet`.

    Raises:
        StoreError: the file cannot be read, or has other columns, types or values than it should.
    """
    documents = [each.name for each in table.columns if isinstance(each.column.type, JSON)]
    rows = []
    for batch in read_parquet(path, table, added):
        for values in batch:
            row = dict(zip(table.names, values, strict=True))
            row |= {name: _from_text(path, name, row[name]) for name in documents}
            rows.append(row)
    return rows


def _from_text(path: Path, name: str, text: str | None) -> Any:  # noqa: ANN401 whatever the column holds
    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is not finite")

    try:
        return None if text is None else json.loads(text, parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        raise StoreError(f"{path}: column {name} holds no valid JSON ({error}); export again") from None


def read_parquet(path: Path, table: PortableTable, added: Mapping[str, Any]) -> Iterator[Batch]:
    """Yield the rows of a table's file, a few thousand at a time.

    Args:
        added: columns that the file does not have yet, with their values.

    Raises:
        StoreError: the file cannot be read, or has other columns, types or values than it should.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    with _reporting(path), pq.ParquetFile(path) as file:
        columns = [each for each in table.columns if each.name not in added]
        found, wanted = file.schema_arrow, _schema_of(columns)
        for name in [*wanted.names, *found.names]:
            if wanted.names.count(name) != found.names.count(name):
                what = "is missing" if name in wanted.names else "is unknown"
                raise StoreError(f"{path}: column {name} {what}: must be {', '.join(wanted.names)}")
        for field in wanted:
            if found.field(field.name).type != field.type:
                raise StoreError(
                    f"{path}: column {field.name} is {found.field(field.name).type}, must be {field.type}"
                )
        for batch in file.iter_batches(BATCH_ROWS, columns=wanted.names):
            arrays: Sequence[pa.Array] = [batch.column(name) for name in wanted.names]
            for column, array in zip(columns, arrays, strict=True):
                _check_values(path, column, array)
            lists = {each.name: array.to_pylist() for each, array in zip(columns, arrays, strict=True)}
            same = {name: [value] * len(batch) for name, value in added.items()}
            yield list(zip(*((lists | same)[name] for name in table.names), strict=True))


@contextmanager
def _reporting(path: Path) -> Iterator[None]:
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowException, OSError, ValueError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise StoreError(f"{path} cannot be read as Parquet ({reason}); export again") from error


def _check_values(path: Path, column: PortableColumn, array: "pa.Array") -> None:
    import numpy as np
    import pyarrow.compute as pc

    if array.null_count and not _may_be_null(column):
        raise StoreError(f"{path}: column {column.name} has no value in some rows; every row needs one")
    if (
        is_float(column.column)
        and not pc.all(pc.is_finite(array.drop_null())).as_py()
        and len(array.drop_null())
    ):
        raise StoreError(
            f"{path}: column {column.name} holds a value that is not finite; only finite ones are stored"
        )
    if column.column.name == "success" and not set(array.unique().to_pylist()) <= {0, 1}:
        raise StoreError(f"{path}: column {column.name} holds other values than 0 and 1")
    kind = PACKED.get(column.name)
    for content in array.drop_null().to_pylist() if kind else ():
        if len(content) % int(str(kind)[-1]) or not np.isfinite(np.frombuffer(content, dtype=kind)).all():
            raise StoreError(f"{path}: column {column.name} holds no array of finite numbers ({kind})")
