"""Damage of files: pages of databases, and files that no row names."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from jsdelta_db.maintenance.check import find_problems
from jsdelta_db.maintenance.doctor import diagnose
from jsdelta_db.store.session import reading_store


def _problems(workspace) -> list[str]:
    with reading_store(workspace.db_url) as connection:
        return list(find_problems(connection, workspace.root))


def _zero_page(path: Path, table: str) -> None:
    """Fill the first page of a table with zeros, as a fault of the disk may."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        ((page,),) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", (table,))
        ((size,),) = connection.execute("PRAGMA page_size")
    with path.open("r+b") as file:
        file.seek((page - 1) * size)
        file.write(bytes(size))


@pytest.mark.parametrize("table", ["sample", "score_segment", "model_metric"])
def test_a_zeroed_page_is_found(table, tiny_copy):
    """``doctor`` and ``db check`` say that the store is damaged, whichever table lost a page."""
    _zero_page(tiny_copy.root / "jsdelta.db", table)
    problems = _problems(tiny_copy)
    assert problems
    assert all(line.startswith("database: ") for line in problems)
    (row,) = [row for row in diagnose(tiny_copy) if row["check"] == "store"]
    assert row["state"] == "broken"
    assert "is damaged" in row["found"]


def test_a_zeroed_page_of_mlflow_is_found(tiny_copy):
    """MLflow's own store is looked at, too."""
    _zero_page(tiny_copy.root / "mlflow.db", "runs")
    problems = _problems(tiny_copy)
    assert problems
    assert all(line.startswith("file mlflow.db: ") for line in problems)


@pytest.mark.parametrize("pattern", ["history.json", "*.png"])
@pytest.mark.parametrize("damage", ["cut", "alter"])
def test_damaged_files_that_no_row_names_are_found(pattern, damage, tiny_copy):
    """A history is no list of epochs any more, a figure's checksums do not fit: both are named."""
    path = sorted((tiny_copy.root / "mlruns").rglob(pattern))[0]
    content = path.read_bytes()
    place = len(content) // 2 if pattern == "*.png" else 0
    flipped = content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]
    path.write_bytes(content[:-5] if damage == "cut" else flipped)
    assert _problems(tiny_copy) == [f"file {path.relative_to(tiny_copy.root)}: altered or cut short"]
