"""Alembic's entry: runs on the connection that ``jsdelta_db.store.migrate`` hands over."""

from alembic import context

from jsdelta_db.store.schema import VERSION_TABLE, Base

connection = context.config.attributes.get("connection")
if connection is None:
    raise SystemExit("run migrations through jsdelta db upgrade")

context.configure(
    connection=connection,
    target_metadata=Base.metadata,
    version_table=VERSION_TABLE,
    compare_type=True,
    render_as_batch=True,  # SQLite cannot alter a column in place
    # A PostgreSQL database may hold foreign tables, which are not drift.
    include_name=lambda name, kind, _: kind != "table" or name in Base.metadata.tables,
)
with context.begin_transaction():
    context.run_migrations()
