"""Manifest of an export: written last, so that a folder without one is not whole."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from jsdelta_db.errors import StoreError
from jsdelta_db.exchange.revisions import check_revision
from jsdelta_db.exchange.tables import portable_tables
from jsdelta_db.runtime.files import write_atomically
from jsdelta_db.runtime.version import installed_version
from jsdelta_db.store.constants import HEAD_REVISION

FORMAT, VERSION = "jsdelta-export", 1
MANIFEST, TABLES, FILES = "manifest.json", "tables", "files"  # all that an export's folder holds


@dataclass(frozen=True, slots=True)
class TableFile:
    """One table's file: its rows, and the sha256 of its bytes."""

    rows: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """Contents of an export.

    Attributes:
        files: how many files of the workspace it holds; None if they were left out.
        revision: of the schema that its tables follow.
    """

    tables: dict[str, TableFile]
    files: int | None
    revision: str = HEAD_REVISION


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write the manifest: from now on the export is whole."""
    facts = {"format": FORMAT, "version": VERSION, "jsdelta": installed_version()}
    content = json.dumps({**facts, **asdict(manifest)}, indent=2) + "\n"
    write_atomically(folder / MANIFEST, content.encode())


def is_export(folder: Path) -> bool:
    """Return whether a folder has the manifest of an export of ours, however damaged the rest is."""
    try:
        return bool(_load(folder).get("format") == FORMAT)
    except StoreError:
        return False


def list_foreign(folder: Path) -> list[str]:
    """Return what an export's folder holds beside the export: names at the top, paths further down.

    Of the files its manifest gives only the number, so that one more is told, but not which.
    """
    manifest = _load(folder)
    names = {path.name for path in folder.iterdir()} - {MANIFEST, TABLES, FILES}
    tables = manifest["tables"] if isinstance(manifest.get("tables"), dict) else {}
    ours = {table_file(name) for name in tables}
    names |= {f"{TABLES}/{path.name}" for path in (folder / TABLES).glob("*") if path.name not in ours}
    files = [path for path in (folder / FILES).rglob("*") if not path.is_dir()]
    number = manifest["files"] if isinstance(manifest.get("files"), int) else 0
    if len(files) > number:
        names.add(f"{len(files)} instead of {number} files in {FILES}")
    return sorted(names)


def read_manifest(folder: Path) -> Manifest:
    """Read the manifest of an export.

    Raises:
        StoreNotReadyError: it is of a newer schema revision.
        StoreError: it is no manifest of ours, or tables are missing or unknown.
    """
    found = _load(folder)
    if found.get("format") != FORMAT or found.get("version") != VERSION:
        raise StoreError(
            f"{folder / MANIFEST}: format {found.get('format')!r}, version {found.get('version')!r}; "
            f"this version reads {FORMAT!r}, {VERSION}"
        )
    revision = check_revision(f"export {folder}", found.get("revision"))
    try:
        tables = {
            str(name): TableFile(int(facts["rows"]), str(facts["sha256"]))
            for name, facts in found["tables"].items()
        }
        files = found["files"] if found["files"] is None else int(found["files"])
    except (KeyError, TypeError, ValueError, AttributeError):
        raise StoreError(f"{folder / MANIFEST} is not complete; export again") from None
    wanted = set(portable_tables())
    if set(tables) != wanted:
        differing = ", ".join(sorted(set(tables) ^ wanted))
        raise StoreError(f"{folder / MANIFEST}: tables missing or unknown: {differing}; export again")
    return Manifest(tables, files, revision)


def _load(folder: Path) -> dict[str, Any]:
    try:
        found = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise StoreError(
            f"{folder / MANIFEST} cannot be read ({type(error).__name__}); export again"
        ) from None
    return found if isinstance(found, dict) else {}


def table_path(folder: Path, name: str) -> Path:
    """Return the path of a table in an export."""
    return folder / TABLES / table_file(name)


def table_file(name: str) -> str:
    """Return the name of a table's file."""
    return f"{name}.parquet"
