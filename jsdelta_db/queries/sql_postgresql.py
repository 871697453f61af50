"""SQL of the user's own on PostgreSQL; a module of its own, since it loads the driver."""

from collections.abc import Mapping, Sequence
from typing import Any

import psycopg
from sqlalchemy import Connection, text

from jsdelta_db.errors import StoreError
from jsdelta_db.queries.catalogue import explain_missing, query_catalogue
from jsdelta_db.queries.sql_statement import as_percent_format, refused, stopped


def run(
    connection: Connection, statement: str, timeout: float, values: Mapping[str, object]
) -> tuple[Sequence[str], Sequence[Sequence[Any]]]:
    """Run one statement in a READ ONLY transaction; see :func:`jsdelta_db.queries.sql.query_sql`."""
    connection.exec_driver_sql("SET TRANSACTION READ ONLY")
    # A first query fixes the transaction as it is: no statement can make it READ WRITE any more.
    milliseconds = str(max(1, round(timeout * 1000)))
    connection.execute(
        text("SELECT set_config('statement_timeout', :milliseconds, true)"), {"milliseconds": milliseconds}
    )
    driver = connection.connection.driver_connection
    assert isinstance(driver, psycopg.Connection)
    try:
        with driver.cursor() as cursor:
            # Prepared, the server takes exactly one: none can end the transaction before another one.
            if values:
                cursor.execute(as_percent_format(statement), dict(values), prepare=True)
            else:
                cursor.execute(statement, prepare=True)
            columns = [column.name for column in cursor.description or ()]
            return columns, cursor.fetchall() if cursor.description else []
    except psycopg.errors.QueryCanceled:
        raise stopped(timeout) from None
    except psycopg.OperationalError as error:
        raise StoreError(f"the server failed: {str(error).splitlines()[0]}; is it still running?") from None
    except psycopg.Error as error:
        driver.rollback()
        there_is = explain_missing(str(error), statement, query_catalogue(connection))
        raise refused(error, there_is) from None
