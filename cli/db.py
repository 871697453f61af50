"""``jsdelta db``: the store's schema, health and sizes."""

import typer

from . import printing
from .commands import App
from .groups import with_groups
from .output import note, say, write_rows

app = App(no_args_is_help=True, help="Maintain the store.")


@app.callback()
def db() -> None:
    """Maintain the store."""


@app.command()
def upgrade(ctx: typer.Context) -> None:
    """Make the store, or bring it to this version's schema; a SQLite file is backed up first.

    Example: jsdelta db upgrade
    """
    from jsdelta_db.store.migrate import upgrade as upgrade_store
    from jsdelta_db.store.schema import HEAD_REVISION

    before, backup = upgrade_store(ctx.obj.workspace().db_url)
    if before == HEAD_REVISION:
        say(f"schema {HEAD_REVISION}: up to date")
        return
    say(f"schema {before or 'none'} -> {HEAD_REVISION}")
    if backup is not None:
        note(f"the store as it was: {backup}")


@app.command()
def check(ctx: typer.Context) -> None:
    """Check that rows, plans and files belong together; exit 1 if anything does not.

    Example: jsdelta db check
    """
    from jsdelta_db.errors import StoreError
    from jsdelta_db.maintenance.check import find_problems
    from jsdelta_db.store.altered import count_without_digest
    from jsdelta_db.store.session import reading_store

    workspace = ctx.obj.workspace()
    with reading_store(workspace.db_url) as connection:
        problems = list(find_problems(connection, workspace.root))
        unchecked = count_without_digest(connection)
    if unchecked:
        note(f"{unchecked} rows of an earlier version have no digest; jsdelta doctor --repair adds them")
    for problem in problems:
        say(problem)
    if problems:
        raise StoreError(
            f"{len(problems)} found; restore files from a backup, or run the attack again elsewhere"
        )
    say("ok")


@app.command()
@with_groups
def stats(ctx: typer.Context, output: printing.Printing) -> None:
    """Count rows and bytes by table, and runs by state.

    Example: jsdelta db stats
    """
    from jsdelta_db.maintenance.stats import count_rows, count_states, size_in_bytes, table_sizes
    from jsdelta_db.store.addresses import parse_url, show_url
    from jsdelta_db.store.session import reading_store

    url = ctx.obj.workspace().db_url
    with reading_store(url) as connection:
        tables, states = count_rows(connection), count_states(connection)
        size, sizes = size_in_bytes(connection), table_sizes(connection)
    rows = [
        {"kind": row["table"], "status": "all", "rows": row["rows"], "bytes": sizes.get(row["table"])}
        for row in tables
    ]
    rows += [{**row, "bytes": None} for row in states]
    rows.append({"kind": "store", "status": "all", "rows": None, "bytes": size})
    write_rows(rows, ("kind", "status", "rows", "bytes"), output)
    note(f"{show_url(parse_url(url))}: {size / 1e6:.1f} MB")
    if not sizes:
        note("this build of SQLite cannot measure a table (dbstat), only the whole file")


@app.command()
@with_groups
def schema(ctx: typer.Context, output: printing.Printing) -> None:
    """List the tables and views with their columns, for jsdelta query sql.

    Example: jsdelta db schema
    """
    from jsdelta_db.queries.catalogue import CATALOGUE_KEYS, query_catalogue

    with ctx.obj.read_store() as connection:
        rows = query_catalogue(connection)
    write_rows(rows, CATALOGUE_KEYS, output)
