"""What the fault tests share: an attack as a process of its own or in this one, and its end, byte for byte."""

import os
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, insert, select, text

from jsdelta_db.config.locations import Workspace
from jsdelta_db.store.creating import open_for_writing
from jsdelta_db.store.migrate import upgrade
from jsdelta_db.store.schema import Base
from jsdelta_db.store.session import open_store, reading_store
from tests.cli.calls import call
from tests.processes import Forked
from tests.workspaces import copy_of, in_chunks_of

JSDELTA = Path(sys.executable).parent / "jsdelta"
PATIENCE = 120  # seconds; a hang would otherwise never end
# Two ε of four chunks each: a fault can fall into a chunk, between chunks and between evaluations. Many
# steps on few images, so that a chunk takes its time, in which it can be killed, and little work.
ATTACK = ("attack", "--eps", "4", "--eps", "6", "--targets", "all", "--images", "12", "--steps", "100")
CHUNKS, CHUNK_SIZE = 8, 28
QUICK_ATTACK = ("attack", "--eps", "5", "--images", "24", "--steps", "2")
QUICK_CHUNK_SIZE = 8  # three chunks

# What must not depend on where work stopped, and what it hangs on; times and MLflow's ids may.
RESULTS = {
    "sample": "attack",
    "score": "evaluation",
    "evaluation_baseline": "evaluation",
    "control_result": "evaluation",
    "score_segment": "evaluation",
    "image_count": "evaluation",
    "attack_chunk": "attack",
    "evaluation_chunk": "evaluation",
}


def on_postgresql(workspace: Workspace, url: str) -> Workspace:
    """Move a workspace's store into an empty PostgreSQL database, row by row; the files stay where they are."""
    upgrade(url)
    source, target = open_store(workspace.db_url), open_for_writing(url)
    with source.reading() as connection, target.transaction() as session:
        for table in Base.metadata.sorted_tables:
            rows = [dict(row) for row in connection.execute(select(table)).mappings()]
            if rows:
                session.execute(insert(table), rows)
            if rows and "id" in table.c:
                last = select(
                    func.setval(func.pg_get_serial_sequence(table.name, "id"), func.max(table.c.id))
                )
                session.execute(last)
    source.close()
    target.close()
    for path in workspace.root.glob("jsdelta.db*"):
        path.unlink()
    return Workspace(workspace.root, url, None, workspace.data_dir)


@contextmanager
def _addressed(workspace: Workspace) -> Iterator[None]:
    """Point this process's commands to a workspace's store."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JSDELTA_DB_URL", workspace.db_url)
        yield


def run_here(capsys, workspace: Workspace, *arguments: str) -> tuple[int, str, str]:
    """Run a command in this process; return exit code, stdout and stderr."""
    with _addressed(workspace):
        return call(capsys, workspace, *arguments)


def start(workspace: Workspace, *arguments: str) -> Forked:
    """Start a command in a process of its own, which plans attacks in chunks of ``CHUNK_SIZE``."""
    environment = {**os.environ, "JSDELTA_DB_URL": workspace.db_url, "OMP_NUM_THREADS": "1"}
    output = Path(tempfile.mkdtemp(dir=workspace.root.parent)) / "printed"
    return Forked(
        ["--workspace", str(workspace.root), *arguments], environment, workspace.root.parent, output,
        CHUNK_SIZE,
    )  # fmt: skip


def start_installed(workspace: Workspace, *arguments: str) -> subprocess.Popen[str]:
    """Start the installed command as a user would: it inherits this process's limits."""
    environment = {**os.environ, "JSDELTA_DB_URL": workspace.db_url, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [JSDELTA, "--workspace", workspace.root, *arguments], text=True, env=environment,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=workspace.root.parent,
    )  # fmt: skip


def error_line(code: int, err: str, expected_code: int = 1) -> str:
    """Check the form that every failure has, and return its one line."""
    said = [line for line in err.splitlines() if line.startswith("jsdelta: ")]
    assert (code, len(said)) == (expected_code, 1), err
    assert "Traceback" not in err
    assert "a defect" not in said[0], err
    return said[0]


class Watch:
    """Looks at a store from outside, over one connection, as fast as it can."""

    def __init__(self, workspace: Workspace) -> None:
        self._url = workspace.db_url
        self._path = workspace.root / "jsdelta.db"

    def ask(self, statement: str) -> list[tuple[Any, ...]]:
        """Return the rows of a SELECT."""
        if self._url.startswith("sqlite"):
            with closing(sqlite3.connect(f"file:{self._path}?mode=ro", uri=True, timeout=30)) as connection:
                return connection.execute(statement).fetchall()
        with reading_store(self._url) as connection:
            return [tuple(row) for row in connection.execute(text(statement))]

    def until_claimed(self, process: Forked) -> None:
        """Wait until a process works on a chunk: start-up is over."""
        mine = f"SELECT 1 FROM evaluation_chunk WHERE owner LIKE '%\t{process.pid}\t%'"
        self.until(process, lambda: bool(self.ask(mine)))

    def until(self, process: Forked, happened, pause: float = 0.02) -> None:
        """Wait until something happened; a process that ends before is a failure."""
        deadline = time.monotonic() + PATIENCE
        while not happened():
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline, "the work did not begin"
            time.sleep(pause)


def end_of(workspace: Workspace) -> dict[str, Any]:
    """Return all that must not depend on where work stopped: rows, chunk states, and files byte for byte."""
    end: dict[str, Any] = {}
    with reading_store(workspace.db_url) as connection:
        # Ids are local to a store and, on PostgreSQL, have gaps where a transaction was undone.
        numbers = {
            parent: {
                found: number
                for number, (found,) in enumerate(
                    connection.execute(text(f"SELECT id FROM {parent} ORDER BY id"))
                )
            }
            for parent in ("attack", "evaluation")
        }
        for name, parent in RESULTS.items():
            table = Base.metadata.tables.get(name)
            if table is None:
                continue
            rows = connection.execute(select(table).order_by(*table.primary_key)).mappings().all()
            end[name] = [_comparable(dict(row), parent, numbers[parent]) for row in rows]
            if name.endswith("_chunk"):
                end[f"{name} files"] = [
                    (
                        numbers[parent][row[f"{parent}_id"]],
                        row["position"],
                        (workspace.root / row["uri"]).read_bytes(),
                    )
                    for row in rows
                ]
    # Processes that work side by side may each have a folder: what counts is that nothing is there twice.
    end["in the folders"] = sorted(
        f"{path.parent.name}/{path.name}" for path in workspace.runs_dir.glob("*/artifacts/s*s/*")
    )
    return end


def _comparable(row: dict[str, Any], parent: str, numbers: dict[int, int]) -> dict[str, Any]:
    row[f"{parent}_id"] = numbers[row[f"{parent}_id"]]
    if row.get("uri"):
        row["uri"] = Path(row["uri"]).name  # its folder is named by MLflow's id
    return {name: bytes(value) if isinstance(value, memoryview) else value for name, value in row.items()}


def assert_same_end(capsys, workspace: Workspace, expected: dict[str, Any]) -> None:
    """Hold a workspace against the end of an attack never stopped, and let ``db check`` look at it."""
    end = end_of(workspace)
    assert list(end) == list(expected)
    for name, found in end.items():
        assert found == expected[name], name
    assert run_here(capsys, workspace, "db", "check")[:2] == (0, "ok\n")


def finish(capsys, workspace: Workspace, arguments: tuple[str, ...], expected: dict[str, Any]) -> None:
    """Run the same command to its end in this process, and hold it against an attack never stopped."""
    code, _, err = run_here(capsys, workspace, *arguments)
    assert code == 0, err
    assert_same_end(capsys, workspace, expected)


def never_stopped(
    tiny: Workspace, root: Path, arguments: tuple[str, ...], chunk_size: int | None = None
) -> Workspace:
    """Return a copy of the tiny store with an attack that nothing disturbed."""
    from cli.main import run

    workspace = copy_of(tiny, root)
    with pytest.MonkeyPatch.context() as patch, _addressed(workspace):
        if chunk_size is not None:
            in_chunks_of(chunk_size, patch)
        assert run(["--workspace", str(workspace.root), *arguments]) == 0
    return workspace
