"""Arrow: rows as a table of typed columns, for Parquet files and for notebooks."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa

LIMIT = 2**63  # of whole numbers


def as_arrow(rows: Sequence[Mapping[str, Any]], keys: Sequence[str] = ()) -> "pa.Table":
    """Return rows as a table; numbers are those of the rows, None is null.

    A column of numbers and text (seeds and names of attacked models) is text; so are whole numbers beyond
    64 bits, such as sums on PostgreSQL.

    Args:
        keys: the columns of a table without rows; those of the rows otherwise.
    """
    import pyarrow as pa

    names = list(dict.fromkeys(key for row in rows for key in row)) if rows else list(keys)
    return pa.table({name: _column([row.get(name) for row in rows]) for name in names})


def _column(values: Sequence[Any]) -> "pa.Array":
    import pyarrow as pa

    kinds = {type(value) for value in values} - {type(None)}
    is_too_long = int in kinds and any(isinstance(v, int) and not -LIMIT <= v < LIMIT for v in values)
    if is_too_long or (len(kinds) > 1 and kinds != {int, float}):
        values = [None if value is None else str(value) for value in values]
    elif kinds == {int, float}:
        values = [None if value is None else float(value) for value in values]
    return pa.array(values)


def as_parquet(table: "pa.Table") -> bytes:
    """Return a table as the content of a Parquet file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    buffer = pa.BufferOutputStream()
    pq.write_table(table, buffer)
    return bytes(buffer.getvalue())
