"""Files that no row names (histories of trainings, figures, MLflow's database), checked by what they are.

They have no hash in the store, and an import does not bring them: one that is missing is no problem, one that
is damaged is.
"""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from zlib import crc32

from jsdelta_db.store.sqlite import connect_read_only

PNG = b"\x89PNG\r\n\x1a\n"


def find_damaged(root: Path) -> Iterator[str]:
    """Yield one line for each damaged file of a workspace that no row names."""
    mlflow = root / "mlflow.db"
    if mlflow.is_file():
        yield from (f"file {mlflow.name}: {line}" for line in _check_database(mlflow))
    for pattern, is_whole in (("history.json", _is_history), ("*.png", _is_figure)):
        for path in sorted((root / "mlruns").rglob(pattern)):
            if not is_whole(path):
                yield f"file {path.relative_to(root)}: altered or cut short"


def _check_database(path: Path) -> list[str]:
    try:
        with closing(connect_read_only(path, timeout=1.0)) as connection:
            lines = [line for (line,) in connection.execute("PRAGMA quick_check(3)")]
    except sqlite3.OperationalError as error:
        return (
            []
            if error.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
            else [str(error)]
        )
    except sqlite3.Error as error:
        return [str(error)]
    return [line.splitlines()[0] for line in lines if line != "ok"]


def _is_history(path: Path) -> bool:
    """Tell whether a file holds the measures of a training's epochs."""
    try:
        epochs = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(epochs, list) and all(isinstance(each, dict) and "epoch" in each for each in epochs)


def _is_figure(path: Path) -> bool:
    """Tell whether every part of a PNG has its checksum, and the last is there.

    Source: W3C, "Portable Network Graphics (PNG) Specification", section 5.
    """
    try:
        content = path.read_bytes()
    except OSError:
        return False
    place, kind = len(PNG), b""
    while kind != b"IEND":
        length = int.from_bytes(content[place : place + 4], "big")
        part, place = content[place + 4 : place + 8 + length], place + 12 + length
        kind = part[:4]
        if place > len(content) or crc32(part) != int.from_bytes(content[place - 4 : place], "big"):
            return False
    return content.startswith(PNG) and place == len(content)
