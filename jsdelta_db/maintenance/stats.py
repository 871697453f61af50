"""Statistics of a store: rows, states and bytes, by table."""

from typing import Any

from sqlalchemy import Connection, case, func, select, text
from sqlalchemy.exc import OperationalError

from jsdelta_db.store.schema import (
    FAILED,
    FINISHED,
    PENDING,
    RUNNING,
    Attack,
    AttackChunk,
    Base,
    Dataset,
    Ensemble,
    Evaluation,
    EvaluationChunk,
    Model,
)

# A table with its indexes; dbstat is compiled into most builds of SQLite, but not into all.
SQLITE_SIZES = """
SELECT sqlite_master.tbl_name, sum(dbstat.pgsize) FROM dbstat
JOIN sqlite_master ON sqlite_master.name = dbstat.name
WHERE dbstat.aggregate = TRUE GROUP BY 1
"""
POSTGRESQL_SIZES = """
SELECT relname, pg_total_relation_size(oid) FROM pg_class
WHERE relkind = 'r' AND relnamespace = current_schema()::regnamespace
"""


def count_rows(connection: Connection) -> list[dict[str, Any]]:
    """Return each table with its number of rows."""
    return [
        {"table": name, "rows": connection.scalar(select(func.count()).select_from(table))}
        for name, table in sorted(Base.metadata.tables.items())
    ]


def count_states(connection: Connection) -> list[dict[str, Any]]:
    """Return how many runs and chunks are in each state; an attack's comes from its chunks."""
    rows = []
    for table in (Dataset, Model, Ensemble, Attack, AttackChunk, Evaluation, EvaluationChunk):
        kind = table.__table__
        state = _attack_states() if table is Attack else select(kind.c.status).subquery()
        statement = select(state.c.status, func.count()).group_by(state.c.status).order_by(state.c.status)
        rows += [
            {"kind": table.__tablename__, "status": status, "rows": count}
            for status, count in connection.execute(statement)
        ]
    return rows


def _attack_states() -> Any:  # noqa: ANN401 a subquery with one column, status
    """Select each attack's state: running or failed if any chunk is, finished if all are, else pending."""

    def any_is(status: str) -> Any:  # noqa: ANN401 a condition
        return func.sum(case((AttackChunk.status == status, 1), else_=0))

    chunks = func.count(AttackChunk.position)
    status = case(
        (any_is(RUNNING) > 0, RUNNING),
        (any_is(FAILED) > 0, FAILED),
        ((chunks > 0) & (any_is(FINISHED) == chunks), FINISHED),
        else_=PENDING,
    )
    joined = select(status.label("status")).select_from(Attack).outerjoin(AttackChunk)
    return joined.group_by(Attack.id).subquery()


def size_in_bytes(connection: Connection) -> int:
    """Return the size of the database."""
    if connection.dialect.name == "sqlite":
        pages, page_size = (connection.scalar(text(f"PRAGMA {name}")) for name in ("page_count", "page_size"))
        return int(pages * page_size)
    return int(connection.scalar(text("SELECT pg_database_size(current_database())")) or 0)


def table_sizes(connection: Connection) -> dict[str, int]:
    """Return each table's bytes, its indexes counted in; empty where this build of SQLite cannot tell."""
    sizes = SQLITE_SIZES if connection.dialect.name == "sqlite" else POSTGRESQL_SIZES
    try:
        found = {str(name): int(size) for name, size in connection.execute(text(sizes))}
    except OperationalError as error:
        if "dbstat" not in str(error.orig):
            raise
        return {}
    return {name: found[name] for name in Base.metadata.tables if name in found}
