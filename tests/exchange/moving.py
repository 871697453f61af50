"""How the tests beside this one move stores, compare them, and damage exports."""

import hashlib
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from jsdelta_db.config.locations import Workspace
from jsdelta_db.exchange.exporting import export_store
from jsdelta_db.exchange.importing import import_store
from jsdelta_db.exchange.open_source import open_as_source
from jsdelta_db.exchange.tables import portable_tables
from jsdelta_db.runtime.progress import Silent
from jsdelta_db.store.addresses import parse_url


def workspace_at(root: Path, url: str | None = None) -> Workspace:
    """Return a workspace with a store of its own, made by whoever writes first."""
    return Workspace(root, url or f"sqlite:///{root / 'jsdelta.db'}", None, root / "data")


def bring(workspace: Workspace, source: Path | str, **options):
    """Import a source into a workspace."""
    return import_store(workspace, str(source), Silent(), **options)


def write(workspace: Workspace, folder: Path, **options):
    """Export a workspace."""
    return export_store(workspace, folder, Silent(), **options)


def rows_by_uid(workspace: Workspace) -> dict[str, list[str]]:
    """Return all finished rows of a store, uids in place of ids, in an order that no store decides."""
    found = {}
    with open_as_source(parse_url(workspace.db_url), workspace.root) as source:
        for name, table in portable_tables().items():
            if table.owner is None:
                rows = [tuple(row[key] for key in table.names) for row in source.runs(table)]
            else:
                owners = source.runs(portable_tables()[table.owner])
                rows = [
                    row for owner in owners for part in source.rows_of(table, owner["uid"]) for row in part
                ]
            found[name] = sorted(map(repr, rows))
    return found


def files_below(root: Path) -> dict[str, str]:
    """Return the sha256 of each file that rows can name, by its path."""
    return {
        path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.suffix in (".pt", ".npy", ".npz")
    }


def rewrite(folder: Path, name: str, change) -> None:
    """Change a table of an export and its hash: only a look at the rows themselves finds out."""
    path = folder / "tables" / f"{name}.parquet"
    pq.write_table(change(pq.read_table(path)), path)
    manifest = json.loads((folder / "manifest.json").read_text())
    rows = pq.read_metadata(path).num_rows
    manifest["tables"][name] = {"rows": rows, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
    (folder / "manifest.json").write_text(json.dumps(manifest))


def replaced(column: str, value, row: int = 0):
    """Return what puts another value into one row."""

    def change(table: pa.Table) -> pa.Table:
        place, values = table.schema.get_field_index(column), table.column(column).to_pylist()
        values[row] = value
        return table.set_column(
            place, table.schema.field(column), pa.array(values, table.schema.field(column).type)
        )

    return change


def edit_manifest(folder: Path, **facts) -> None:
    """Change what an export says of itself."""
    path = folder / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | facts))
