"""Catalogue: the tables and views of a store with their columns, for who writes SQL."""

import re
import sqlite3
from collections.abc import Sequence

from jsdelta_db.queries.selection import Row
from jsdelta_db.store.reading import Reader, fetch

CATALOGUE_KEYS = ("kind", "table", "column", "type")
OF_SQLITE = """
SELECT made.type, made.name, part.name, part.type
FROM sqlite_master AS made JOIN pragma_table_info(made.name) AS part
WHERE made.type IN ('table', 'view') AND made.name NOT LIKE 'sqlite%'
ORDER BY made.type DESC, made.name, part.cid
"""
OF_POSTGRESQL = """
SELECT CASE made.table_type WHEN 'VIEW' THEN 'view' ELSE 'table' END AS kind,
       part.table_name, part.column_name, part.data_type
FROM information_schema.columns AS part
JOIN information_schema.tables AS made USING (table_schema, table_name)
WHERE table_schema = current_schema()
ORDER BY kind DESC, part.table_name, part.ordinal_position
"""
NO_COLUMN = re.compile(r"no such column|column .* does not exist")
NO_TABLE = re.compile(r"no such table|relation .* does not exist")


def query_catalogue(reader: Reader) -> list[Row]:
    """Return a row for each column of the tables and views, views first."""
    sql = OF_SQLITE if isinstance(reader, sqlite3.Connection) else OF_POSTGRESQL
    return [dict(zip(CATALOGUE_KEYS, row, strict=True)) for row in fetch(reader, sql)]


def explain_missing(message: str, statement: str, rows: Sequence[Row]) -> str:
    """Return what there is, where a database says that a statement's column or table is not; "" else.

    Args:
        rows: of the catalogue.
    """
    tables = list(dict.fromkeys(row["table"] for row in rows))
    if NO_TABLE.search(message):
        return f"tables: {', '.join(tables)}"
    if not NO_COLUMN.search(message):
        return ""
    words = set(re.findall(r"\w+", statement.lower()))
    named = [table for table in tables if table.lower() in words]
    return "; ".join(
        f"columns of {table}: {', '.join(row['column'] for row in rows if row['table'] == table)}"
        for table in named
    )
